# shellcheck shell=bash disable=SC2034,SC2154  # variables of setup
# Downloads packages with apt and unpacks them into a folder, without root and
# without installing them. Signatures, mirrors, proxies and credentials are those
# of the machine's own apt. Sourced.

# private_apt DIR SOURCES: writes DIR/apt.conf, an apt whose state lies in DIR
# and which believes that nothing is installed. SOURCES is a sources.list, or
# "system" for the machine's own sources and package lists.
private_apt() {
  local dir=$1 sources=$2
  mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/none"
  : >"$dir/status"
  {
    # Hooks are for the system's own apt, and some of them need root.
    echo '#clear APT::Update::Pre-Invoke;'
    echo '#clear APT::Update::Post-Invoke;'
    echo '#clear APT::Update::Post-Invoke-Success;'
    echo '#clear DPkg::Post-Invoke;'
    echo '#clear DPkg::Pre-Install-Pkgs;'
    echo "Dir::State \"$dir/state\";"
    echo "Dir::State::status \"$dir/status\";"
    echo "Dir::Cache \"$dir/cache\";"
    echo "Dir::Etc::preferences \"$dir/none/preferences\";"
    echo "Dir::Etc::preferencesparts \"$dir/none\";"
    echo 'APT::Sandbox::User "";'
    echo 'APT::Install-Recommends "false";'
    echo 'APT::Architecture "amd64";'
    echo 'APT::Architectures { "amd64"; };'
    echo 'Acquire::Languages "none";'
    echo 'Debug::NoLocking "true";'
    if [[ $sources == system ]]; then
      echo "Dir::State::lists \"/var/lib/apt/lists\";"
    else
      echo "Dir::State::lists \"$dir/state/lists\";"
      echo "Dir::Etc::sourcelist \"$sources\";"
      echo "Dir::Etc::sourceparts \"$dir/none\";"
    fi
  } >"$dir/apt.conf"
}

# archive_uri: the address of the distribution's main archive, as the machine's
# own sources have it. The package lists must be there.
archive_uri() {
  # shellcheck disable=SC2016  # apt's placeholders, not the shell's.
  apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
    'Created-By: Packages' |
    awk -v codename="$os_codename" \
      '!found && $2 == codename && $3 == "main" { print $1; found = 1 }'
}

# archive_keyring: a "[signed-by=...]" option for a one-line source, or nothing
# when the distribution's keys are among those that apt trusts anyway.
archive_keyring() {
  local file
  for file in "/usr/share/keyrings/$os_id-archive-keyring".{pgp,gpg}; do
    if [[ -r $file ]]; then
      echo "[arch=amd64 signed-by=$file]"
      return
    fi
  done
  echo "[arch=amd64]"
}

# unpack_debs LABEL FOLDER DEB...: all into one tree with a merged /usr.
unpack_debs() {
  local label=$1 folder=$2 done_count=0 deb link
  shift 2
  mkdir -p "$folder"/usr/{bin,sbin,lib,lib64}
  for link in bin sbin lib lib64; do ln -sfn "usr/$link" "$folder/$link"; done
  for deb in "$@"; do
    # Through tar, which follows the links above; dpkg -x would replace them.
    dpkg-deb --fsys-tarfile "$deb" |
      tar -x -C "$folder" --keep-directory-symlink --no-same-owner \
        --exclude='./usr/share/doc' --exclude='./usr/share/man' \
        --exclude='./usr/share/locale' --exclude='./usr/share/lintian'
    done_count=$((done_count + 1))
    progress "$label: unpacking" $((done_count * 100 / $#))
  done
  chmod -R u+rwX,go+rX,go-w "$folder"
}
