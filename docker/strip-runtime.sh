#!/bin/sh
# Run in an image's last stage: takes away what a running container has no use for and an intruder has.
# Compilers, package managers, Perl, set-user-id bits; adds the user 10001. The list of installed Debian packages
# (/var/lib/dpkg/status) stays: scanners and the bill of materials read it.
set -eu

# the one user that runs anything
grep -q '^fedminet:' /etc/passwd || echo 'fedminet:x:10001:10001:fedminet:/nonexistent:/usr/sbin/nologin' >> /etc/passwd
grep -q '^fedminet:' /etc/group || echo 'fedminet:x:10001:' >> /etc/group

# Python's package managers: pip, and uv, which Flower installs beside itself for a use that is switched off
for site in /opt/venv/lib/python3*/site-packages /usr/lib/python3*/site-packages /usr/lib/python3/dist-packages \
            /usr/local/lib/python3*/site-packages; do
  [ -d "$site" ] || continue
  rm -rf "$site"/pip "$site"/pip-* "$site"/uv "$site"/uv-* "$site"/ensurepip
done
rm -rf /usr/lib/python3*/ensurepip /usr/local/lib/python3*/ensurepip /usr/share/python-wheels
rm -f /opt/venv/bin/pip* /opt/venv/bin/uv /opt/venv/bin/uvx /usr/bin/pip* /usr/local/bin/pip* /usr/local/bin/idle*

# compilers and their kin, if the base brought any
for tool in cc c++ gcc g++ cpp clang as ld ar make cmake nvcc; do
  rm -f /usr/bin/"$tool" /usr/bin/"$tool"-[0-9]* /usr/bin/*-linux-gnu-"$tool"* /usr/local/bin/"$tool"
done

# set-user-id and set-group-id bits: nothing here changes its user
find / -xdev -type f \( -perm -4000 -o -perm -2000 \) -exec chmod a-s {} +

# Debian's package managers and what belongs to them alone; last, as the lines above may use them
rm -rf /var/lib/apt /var/cache/apt /etc/apt /usr/lib/apt /usr/share/doc /usr/share/man /usr/share/locale \
       /var/log/apt /var/log/dpkg.log /var/lib/dpkg/info /usr/share/perl* /usr/lib/*-linux-gnu/perl* /var/cache/debconf
rm -f /usr/bin/apt* /usr/bin/dpkg* /usr/sbin/dpkg* /usr/bin/deb* /usr/sbin/update-* /usr/bin/perl* /usr/bin/c_rehash
