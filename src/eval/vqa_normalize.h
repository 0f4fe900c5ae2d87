#pragma once
// How VQA's official scorer makes answers comparable.

#include <string>
#include <string_view>

namespace halftone {

// Line feeds and tabs to spaces, and white space at both ends removed: done to every answer.
std::string vqa_clean(std::string_view answer);

// Punctuation, lower case, number words, articles, contractions, in this order.
//   For each p of ; / [ ] " { } ( ) = + \ _ - > < @ ` , ? !  p is deleted when "p " or " p" occurs in the text as given
//   or the text has digit, comma, digit anywhere, else replaced by a space. Then up to 32 full stops that no digit
//   follows are deleted (upstream passes re.UNICODE, which is 32, where the count belongs, and its look-behind is
//   malformed).
// Source: GT-Vision-Lab/VQA vqaEval.py, processPunctuation and processDigitArticle.
std::string vqa_normalize(std::string_view answer);

}  // namespace halftone
