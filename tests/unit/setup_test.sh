#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Tests the parts of contrib/setup that depend on the machine's APT configuration. Changes nothing.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=contrib/setup
. "$here/../../contrib/setup"

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
failed=0

# expect WHAT EXPECTED ACTUAL
expect() {
	[[ $2 != "$3" ]] || return 0
	printf 'FAILED: %s\n' "$1"
	diff <(echo "$2") <(echo "$3") || true
	failed=1
}

mkdir -p "$temp"/etc/{apt.conf.d,sources.list.d} "$temp/out"
export APT_CONFIG=$temp/apt.conf
echo "Dir::Etc \"$temp/etc\";" >"$APT_CONFIG"

# No mirror at all.
write_sources bookworm trixie "$temp/out" && status=0 || status=1
expect "no sources" 1 "$status"

cat >"$temp/etc/sources.list" <<'END'
# deb http://commented.example/debian bookworm main
deb http://one.example/debian bookworm main contrib # remark main
  deb	[arch=amd64 signed-by=/k.gpg] mirror+file:/etc/mirrors bookworm non-free main
deb-src http://source.example/debian bookworm main
deb http://one.example/debian bookworm-updates main
deb http://security.example/debian-security bookworm-security main
deb http://third.example/linux/debian bookworm stable
END
cat >"$temp/etc/sources.list.d/two.sources" <<'END'
Types: deb deb-src
# a remark
URIs: http://two.example/debian
  http://three.example/debian
Suites: bookworm bookworm-updates
Components: main non-free-firmware
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Suites: bookworm
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

types: deb
uris: http://four.example/debian
suites:
 bookworm
components:
 main
signed-by: /k.gpg
END

write_sources bookworm trixie "$temp/out"
expect "one-line sources" "\
deb-src http://one.example/debian trixie main
deb-src	[arch=amd64 signed-by=/k.gpg] mirror+file:/etc/mirrors trixie main" \
	"$(cat "$temp/out/machine.list")"
expect "deb822 sources" "\
Types: deb-src
Suites: trixie
Components: main
URIs: http://two.example/debian
  http://three.example/debian
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Suites: bookworm
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb-src
Suites: trixie
Components: main
uris: http://four.example/debian
signed-by: /k.gpg" "$(cat "$temp/out/machine.sources")"

# Not Debian, so no codename: other distributions' mirrors have no suite of that name.
write_sources '' trixie "$temp/out" && status=0 || status=1
expect "no Debian" 1 "$status"

expect "missing packages" $'no-such-package-1\nno-such-package-2' \
	"$(missing_packages dpkg no-such-package-0=sh no-such-package-1 no-such-package-2=no-such-command)"

((!failed)) && echo "setup: passed"
exit "$failed"
