#!/bin/sh
# Puts the binary that cargo built into this package, under the name that Node.js has for the platform. `npm pack` then makes a package that runs
# here without anything else. Takes the binary as its argument, or builds target/release/dbelay.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -gt 0 ]; then
  binary=$1
else
  (cd "$here/.." && cargo build --release --locked --bin dbelay)
  binary=${CARGO_TARGET_DIR:-$here/../target}/release/dbelay
fi
[ -f "$binary" ] || binary=$binary.exe
platform=$(node -p '`${process.platform}-${process.arch}`')
case $binary in
  *.exe) name=dbelay.exe ;;
  *) name=dbelay ;;
esac
mkdir -p "$here/vendor/$platform"
cp "$binary" "$here/vendor/$platform/$name"
chmod 755 "$here/vendor/$platform/$name"
echo "$here/vendor/$platform/$name"
