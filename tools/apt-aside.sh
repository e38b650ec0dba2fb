# apt-aside.sh - to be sourced: packages of other releases of Debian, with the system's own servers
# and keys, and without touching its lists.
#
# apt_aside FOLDER deb|deb-src RELEASE... sets the array `apt`, the options of apt-get and apt-cache,
# and fetches the lists into the folder. It fails where this is no Debian. ARCHITECTURE=arm64 asks
# for another one's packages, of which none is installed: all that one needs come with it.
apt_aside() {
    local into=$1 kind=$2 site release
    shift 2
    site=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 2>/dev/null | grep -v security | sort -u | head -n 1)
    [ -n "$site" ] || { echo "no Debian" >&2; return 1; }
    mkdir -p "$into/lists/partial" "$into/cache/archives/partial"
    for release in "$@"; do
        echo "$kind [${ARCHITECTURE:+arch=$ARCHITECTURE }signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $release main"
    done >"$into/sources"
    # shellcheck disable=SC2034
    apt=(-qq -o "Dir::Etc::sourcelist=$into/sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$into/lists"
        -o "Dir::Cache=$into/cache" -o APT::Sandbox::User=root)
    if [ -n "${ARCHITECTURE:-}" ]; then
        : >"$into/status"
        apt+=(-o "Dir::State::status=$into/status" -o "APT::Architecture=$ARCHITECTURE" -o "APT::Architectures=$ARCHITECTURE")
    fi
    apt-get "${apt[@]}" update
}
