"""Seeded strings, as bytes, for the comparison of tokenizers: many scripts, emoji, white space, digits, code, contractions,
control bytes, special tokens inside text, composed and decomposed forms, and broken UTF-8."""

import random
import unicodedata

SENTENCES = """The quick brown fox doesn't jump; it's lazy, they're late, I'll wait, we've won, I'm here, she'd go, O'REILLY'S.
Größe, Straße, Übermut und Ärger: 3,14 € für 1.000 Stück!
L'élève a reçu l’œuvre « naïve » à Noël, n'est-ce pas ?
¿Dónde está el niño? ¡Aquí! Año 2024, página 15ª.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία. Ὀδυσσεύς ΣΊΣΥΦΟΣ.
敏捷的棕色狐狸跳过了懒狗。中华人民共和国，一九四九年。
いろはにほへと　ちりぬるを　カタカナ ﾊﾝｶｸ １２３
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ١٢٣٤
דג סקרן שט בים מאוכזב ולפתע מצא חברה שָׁלוֹם
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश १२३
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓
আমি বাংলায় গান গাই। தமிழ் மொழி తెలుగు ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ
Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau.
İstanbul'da ığdır IĞDIR şöyle çağrı; ẞ ß ﬁ ﬂ ſ K Å Ω
ქართული ენა ՀԱՅԵՐԵՆ հայերեն አማርኛ ᏣᎳᎩ ខ្មែរ မြန်မာ བོད་ཡིག ᠮᠣᠩᠭᠣᠯ ລາວ
for (int i = 0; i < n; ++i) {\\n\\tx[i] += y[i] * 2.5e-3f;  // sum\\n}
def f(x, *args, **kw):\\n    return {k: v for k, v in kw.items() if k != '__x__'}\\n
SELECT "a".*, COUNT(*) FROM t WHERE x >= 10 AND y LIKE '%z_';
<div class="a b">&nbsp;&lt;p&gt;</div> https://example.org/a?b=c&d=%20#e user@example.com
$E = mc^2$, \\\\frac{a}{b} ≤ ∑_{i=0}^{n} x_i², ∀x∈ℝ: ∃y ≠ ∅ → ½ ¾ ⅷ Ⅻ ① ㊿
Answer the question using a single word or phrase. What color is the dog? Please answer yes or no.
How many red circles are left of the umbrella? There are 12 of 305 objects.""".split("\n")
SENTENCES = [s.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\") for s in SENTENCES]

EMOJI = """😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 🇯🇵🇺🇸 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ❤️ ❤ ☎︎ 1️⃣ #️⃣ 🧑🏿‍🚀 👨🏻‍❤️‍💋‍👨🏿 🫠 🪿 🫨 ♾️ ✈️ ©️ ‼️ 🀄 🃏 🅰️ 🈁""".split(" ")
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|> <|box_start|>
<|box_end|> <|object_ref_start|> <|object_ref_end|> <|quad_start|> <|quad_end|> <|vision_pad|>""".split()
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028"] + [
    "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\u180e", "\ufeff", "\u1680", "\u202f", "\u205f", "    ", "\t\t", " " * 17]
CONTRACTIONS = "'s 'S 't 'T 're 'RE 'Re 'rE 've 'm 'M 'll 'LL 'lL 'd 'D 'ſ 'x ’s ''s 's's 'sa 'lla 'l".split()
BROKEN = [b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1\xbf", b"\xc2", b"\xe0\x80\xaf", b"\xe0\xa0", b"\xe2\x82", b"\xed\xa0\x80", b"\xfe"] + [
    b"\xed\xa0\xbd\xed\xb8\x80", b"\xed\xbf\xbf", b"\xf0\x9f\x98", b"\xf0\x9f", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xff"] + [
    b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", b"\xc3\x28", b"\xf4\x8f\xbf", b"\xf1\x80"]
RANGES = [
    (0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x250, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x700, 0x7FF), (0x800, 0x8FF), (0x900, 0x97F), (0x980, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F), (0x13A0, 0x167F), (0x1680, 0x18AF), (0x1900, 0x1CFF),
    (0x1D00, 0x1DFF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x23FF), (0x2400, 0x27BF), (0x27C0, 0x2BFF),
    (0x2C00, 0x2DFF), (0x2E00, 0x2FFF), (0x3000, 0x30FF), (0x3100, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF),
    (0xA4D0, 0xABFF), (0xAC00, 0xD7A3), (0xD7B0, 0xD7FF), (0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFEFF),
    (0xFF00, 0xFFFF), (0x10000, 0x107FF), (0x10800, 0x10FFF), (0x11000, 0x11FFF), (0x12000, 0x16FFF), (0x17000, 0x1BFFF),
    (0x1C000, 0x1D0FF), (0x1D100, 0x1D7FF), (0x1D800, 0x1EFFF), (0x1F000, 0x1FAFF), (0x1FB00, 0x1FBFF), (0x20000, 0x2FA1F),
    (0x30000, 0x323AF), (0xE0000, 0xE01EF), (0xF0000, 0x10FFFF),
]  # fmt: skip


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def repeat(self, make, low, high, separator=""):
        return separator.join(make() for _ in range(self.random.randint(low, high)))

    def word(self):
        return self.random.choice(self.random.choice(SENTENCES).split(" "))

    def span(self):
        sentence = self.random.choice(SENTENCES)
        begin = self.random.randrange(len(sentence))
        return sentence[begin : begin + self.random.randint(1, 40)]

    def character(self):
        low, high = self.random.choice(RANGES)
        return chr(self.random.randint(low, high))

    def script(self):
        low, high = self.random.choice(RANGES)
        return "".join(chr(self.random.randint(low, high)) for _ in range(self.random.randint(1, 12)))

    def digits(self):
        digits = self.random.choice(["0123456789", "0123456789.,", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９", "²³¹¼½¾Ⅳⅷ①㊿"])
        return self.repeat(lambda: self.random.choice(digits), 1, 9)

    def space(self):
        return self.repeat(lambda: self.random.choice(SPACES), 1, 4)

    def control(self):
        return self.repeat(lambda: chr(self.random.choice([*range(32), *range(127, 160)])), 1, 3)

    def marks(self):
        base = self.random.choice("aeiouAEOUnsxẠậ각가ᄀ한Αωאבक")
        marks = "\u0300\u0301\u0302\u0303\u0308\u030a\u0323\u0327\u0328\u0331\u0345\u05b0\u05bc\u093c\u1161\u11a8\u0334\u1dce\u20d0"
        return base + self.repeat(lambda: self.random.choice(marks), 1, 4)

    def punctuation(self):
        return self.repeat(lambda: self.random.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~–—…“”‘’«»¿¡。、「」"), 1, 5)

    def special(self):
        token = self.random.choice(SPECIAL)
        return token if self.random.random() < 0.7 else token[: self.random.randint(1, len(token))]

    def contraction(self):
        return self.random.choice(["he", "He", "", " ", "1", "é", "they"]) + self.random.choice(CONTRACTIONS)

    def emoji(self):
        return self.repeat(lambda: self.random.choice(EMOJI), 1, 3)

    def piece(self):
        kinds = [self.word, self.word, self.span, self.span, self.script, self.character, self.digits, self.space, self.space]
        kinds += [self.control, self.marks, self.punctuation, self.special, self.contraction, self.emoji]
        return self.random.choice(kinds)()

    def text(self):
        text = self.repeat(self.piece, 1, 6, self.random.choice(["", "", " "]))
        form = self.random.choice([None, None, None, "NFC", "NFD", "NFKC", "NFKD"])
        return unicodedata.normalize(form, text) if form else text

    def broken(self):
        text = self.text().encode()
        action = self.random.randrange(4)
        if action == 0:
            return text[: self.random.randint(0, len(text))]
        if action == 1:
            at = self.random.randint(0, len(text))
            return text[:at] + self.random.choice(BROKEN) + text[at:]
        if action == 2:
            return bytes(b if self.random.random() > 0.05 else self.random.randrange(256) for b in text)
        return bytes(self.random.randrange(256) for _ in range(self.random.randint(1, 24)))


def make_strings(count, seed):
    """`count` byte strings: the sentences and fragments above one by one, then mixtures; one in six is broken UTF-8."""
    fixed = ["", *SENTENCES, *EMOJI, *SPECIAL, *SPACES, *CONTRACTIONS, "a" * 300, " " * 100 + "x", "\n" * 50, "ab " * 60]
    strings = [s.encode() for s in fixed] + [b"a" + b + b"z" for b in BROKEN] + BROKEN
    generator = Generator(seed)
    while len(strings) < count:
        strings.append(generator.broken() if generator.random.random() < 1 / 6 else generator.text().encode())
    return strings[:count]
