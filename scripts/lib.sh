# Shared by the scripts of this folder: packages, and building one preset.

halftone_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# compiled objects are shared between clones of the project
export CCACHE_BASEDIR=$halftone_root CCACHE_NOHASHDIR=1
# what is not in the cache is not preprocessed a second time to find that out; precompiled headers count as files
export CCACHE_DEPEND=1 CCACHE_SLOPPINESS=pch_defines,time_macros

note() { printf '%s\n' "$*" >&2; }

# install_packages ROLE...: installs what scripts/packages.txt lists for these roles and is not there yet.
install_packages() {
  local wanted=() missing=() package
  local role
  for role in "$@"; do
    while read -r package; do wanted+=("$package"); done < <(awk -v role="$role" '$1 == role { print $2 }' "$halftone_root/scripts/packages.txt")
  done
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  # a virtual package (libjpeg-dev on some releases) is there when something provides it
  local really=()
  for package in "${missing[@]}"; do
    dpkg-query -W -f='${db:Status-Status} ${Provides}\n' 2>/dev/null | grep -q "^installed .*\b$package\b" || really+=("$package")
  done
  [ ${#really[@]} -eq 0 ] && return 0
  if [ "$(id -u)" -ne 0 ]; then
    note "These packages are missing; install them and run this again:"
    note "  sudo apt-get install ${really[*]}"
    return 1
  fi
  note "Installing ${really[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "${really[@]}" >&2
}

# True when there is a GPU that the CUDA backend could use.
has_gpu() { nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# build PRESET [TARGET...]: configures and builds in build/PRESET. Ninja shows what is left to do.
# The demo leaves the CUDA backend out where there is no GPU to run it on.
build() {
  local preset=$1 options=()
  shift
  [ "$preset" = demo ] && { has_gpu && options=(-DHALFTONE_CUDA=auto) || options=(-DHALFTONE_CUDA=off); }
  cmake --preset "$preset" -S "$halftone_root" "${options[@]}" >&2 || return 1
  if [ $# -eq 0 ]; then
    cmake --build "$halftone_root/build/$preset" >&2
  else
    cmake --build "$halftone_root/build/$preset" --target "$@" >&2
  fi
}
