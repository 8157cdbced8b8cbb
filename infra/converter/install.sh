#!/usr/bin/env bash
# Installs the remote converter as a service, or takes it away again. Running it again upgrades what is there and
# leaves settings alone.
set -euo pipefail
# The service's account reads what a careful root's umask would keep to root.
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=morag-remote-converter
account=morag-converter
settings=remote_converter_config.yaml

usage() {
    cat <<TEXT
Usage: install.sh [options]

Installs the remote converter, a Python with what its built-in converters need, a settings file to edit and a systemd
service, and then tests the connection and the converters.

  --binary FILE     the program to install (default: beside this script, or in target/release of the repository)
  --python PROGRAM  the Python to make the environment with, 3.11 or later (default: python3)
  --no-python       make no Python environment; set \`python\` in the settings to one that has what is needed
  --user            install for this user alone, without root
  --prefix FOLDER   where programs go (default: /usr/local, with --user ~/.local)
  --no-check        do not test the connection and the converters at the end
  --uninstall       take away what was installed; settings and unsubmitted results stay
  --help            show this

DESTDIR in the environment puts everything below another root, for packaging: nothing is then started or tested.
Exit codes: 0 installed; 1 not installed; 2 wrong options; 3 installed, but a check at the end failed.
TEXT
}

fail() { echo "install.sh: $1" >&2; exit "${2:-1}"; }
note() { echo "==> $1"; }

binary='' python=python3 with_python=yes for_user=no prefix='' check=yes action=install
destdir=${DESTDIR:-}
while [ $# -gt 0 ]; do
    case $1 in
        --binary | --python | --prefix)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help." 2
            declare "${1#--}=$2"
            shift
            ;;
        --no-python) with_python=no ;;
        --user) for_user=yes ;;
        --no-check) check=no ;;
        --uninstall) action=uninstall ;;
        --help | -h) usage; exit 0 ;;
        *) fail "$1 is no option; see --help." 2 ;;
    esac
    shift
done

if [ "$for_user" = yes ]; then
    prefix=${prefix:-$HOME/.local}
    config=${XDG_CONFIG_HOME:-$HOME/.config}/$name
    state=${XDG_STATE_HOME:-$HOME/.local/state}/$name
    units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
    template=$here/$name.user.service
else
    prefix=${prefix:-/usr/local}
    config=/etc/$name
    state=/var/lib/$name
    units=/etc/systemd/system
    template=$here/$name.service
    [ -n "$destdir" ] || [ "$(id -u)" = 0 ] || fail "run it as root, or with --user to install for yourself alone."
fi
case $prefix in /*) ;; *) fail "--prefix must begin with a slash." 2 ;; esac
venv=$prefix/lib/$name/venv

control() {
    [ -z "$destdir" ] && command -v systemctl >/dev/null || return 0
    if [ "$for_user" = yes ]; then systemctl --user "$@"; else systemctl "$@"; fi
}

uninstall_all() {
    control disable --now "$name.service" 2>/dev/null || true
    rm -f "$destdir$units/$name.service" "$destdir$prefix/bin/remote-converter"
    # shellcheck disable=SC2115 # The name is never empty.
    rm -rf "$destdir$prefix/lib/$name"
    control daemon-reload || true
    note "Removed. Settings are still in $config, and what was not yet submitted in $state."
}

find_binary() {
    if [ -z "$binary" ]; then
        for binary in "$here/remote-converter" "$here/../../target/release/remote-converter"; do
            [ -x "$binary" ] && return
        done
        fail "there is no program to install; build it by \`cargo build --release -p remote-converter\`, or name it by --binary."
    fi
    [ -x "$binary" ] || fail "$binary is no program that can be run."
}

make_account() {
    [ "$for_user" = no ] && [ -z "$destdir" ] || return 0
    id -u "$account" >/dev/null 2>&1 && return
    note "Making the account $account"
    useradd --system --user-group --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$account"
}

# Runs a program as the service will.
# Runs a command as the service would, with what its environment file sets.
as_service() (
    if [ -f "$config/environment" ]; then
        while IFS= read -r line; do
            case $line in [A-Za-z_]*=*) ;; *) continue ;; esac
            value=${line#*=}
            case $value in \"*\" | \'*\') value=${value:1:-1} ;; esac
            export "${line%%=*}=$value"
        done <"$config/environment"
    fi
    if [ "$for_user" = yes ]; then "$@"; else runuser -u "$account" -- "$@"; fi
)

make_python() {
    local list
    for list in "$here/requirements.txt" "$here/../../apps/converter/builtin/requirements.txt"; do
        [ -f "$list" ] && break
    done
    [ -f "$list" ] || fail "requirements.txt is missing beside install.sh."
    "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "$python is not Python 3.11 or later with venv (Debian: python3-venv); name another by --python, or give --no-python."
    local done=$destdir$venv/installed
    cmp -s "$list" "$done" && return
    note "Installing what the built-in converters need into $venv (a few minutes)"
    "$python" -m venv "$destdir$venv"
    "$destdir$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list"
    cp "$list" "$done"
}

# A settings file from the program's own example, with this installation's paths. An existing one is not touched.
write_settings() {
    local file=$destdir$config/$settings
    if [ -e "$file" ]; then
        note "Keeping $config/$settings"
        return
    fi
    note "Writing $config/$settings, which you should edit"
    local interpreter=python3 folder
    [ "$with_python" = no ] || interpreter=$venv/bin/python
    folder=$(mktemp -d)
    (cd "$folder" && "$destdir$prefix/bin/remote-converter" --create-config >/dev/null)
    (
        umask 077
        sed -e "s|^temp_dir:.*|temp_dir: $state/work|" \
            -e "s|^python:.*|python: $interpreter|" \
            -e "s|^worker_id:.*|worker_id: $(uname -n)|" \
            "$folder/$settings.example" >"$file"
    )
    rm -r "$folder"
    if [ "$for_user" = no ] && [ -z "$destdir" ]; then chown "$account:$account" "$file"; fi
}

write_unit() {
    local groups='' group
    if [ "$for_user" = no ] && [ -z "$destdir" ]; then
        # What a GPU's device files belong to.
        for group in video render; do
            if getent group "$group" >/dev/null; then groups="$groups $group"; fi
        done
    fi
    sed -e "s|^ExecStart=.*|ExecStart=$prefix/bin/remote-converter --config $config/$settings|" \
        -e "s|^WorkingDirectory=.*|WorkingDirectory=$config|" \
        -e "s|^EnvironmentFile=.*|EnvironmentFile=-$config/environment|" \
        ${groups:+-e "s|^#SupplementaryGroups=.*|SupplementaryGroups=${groups# }|"} \
        "$template" >"$destdir$units/$name.service"
    chmod 644 "$destdir$units/$name.service"
}

run_checks() {
    local failed=0
    note "Testing the connection"
    (cd "$config" && as_service "$prefix/bin/remote-converter" --config "$config/$settings" --test-connection) || failed=3
    note "Looking at the converters"
    (cd "$config" && as_service "$prefix/bin/remote-converter" doctor --config "$config/$settings") || failed=3
    if [ $failed != 0 ]; then
        note "Installed, but not ready: see above, edit $config/$settings, and run install.sh again."
    fi
    return $failed
}

install_all() {
    find_binary
    make_account
    mkdir -p "$destdir$prefix/bin" "$destdir$prefix/lib/$name" "$destdir$units"
    mkdir -p "$destdir$config"
    chmod 750 "$destdir$config"
    if [ "$for_user" = no ] && [ -z "$destdir" ]; then chown "root:$account" "$config"; fi
    note "Installing $prefix/bin/remote-converter"
    # Renaming takes the place of a program that runs, which cannot be written.
    install -m 755 "$binary" "$destdir$prefix/bin/.remote-converter.new"
    mv -f "$destdir$prefix/bin/.remote-converter.new" "$destdir$prefix/bin/remote-converter"
    if [ "$with_python" = yes ]; then make_python; fi
    write_settings
    write_unit
    if [ -n "$destdir" ]; then
        note "Done below $destdir"
        return
    fi
    if [ "$for_user" = yes ]; then
        install -d -m 700 "$state"
    else
        install -d -m 700 -o "$account" -g "$account" "$state"
    fi
    control daemon-reload || true
    local result=0
    if [ "$check" = yes ]; then run_checks || result=$?; fi
    local systemctl=systemctl
    if [ "$for_user" = yes ]; then systemctl='systemctl --user'; fi
    note "Start it by: $systemctl enable --now $name, and again after a change by: $systemctl restart $name"
    return $result
}

"$action"_all
