#!/usr/bin/env bash
# Starts systemd as process 1 over a copy of this machine that vanishes with it, and runs a federation by the two units.
#
#   unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child units_under_systemd.sh WORK SOURCE PYTHON_HOME
#
# WORK: a folder with `srv` (the coordinator's and the site's folder), `units` and `out`, which gets what was seen.
# SOURCE: the checkout. PYTHON_HOME: where Python is; it and SOURCE are shown in /opt, since the units hide /root and /home.
set -euo pipefail
work=$1 source=$2 python_home=$3
root=$work/root
user=fedminet

boot() {
  mount --make-rprivate /
  mkdir -p "$work/layer" "$root"
  mount -t tmpfs tmpfs "$work/layer"
  mkdir "$work/layer/upper" "$work/layer/work"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layer/upper,workdir=$work/layer/work" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/unified" "$root/sys/fs/cgroup/systemd"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
  mount -t devtmpfs devtmpfs "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  mkdir -p "$root"/opt/{source,python,fedminet/bin} "$root/etc/fedminet" "$root/srv/fedminet" "$root/out"
  mount --bind "$source" "$root/opt/source"
  mount --bind "$python_home" "$root/opt/python"
  mount --bind "$work/out" "$root/out"
}

install_program() {
  cat > "$root/opt/fedminet/bin/fedminet" <<'EOF'
#!/bin/bash
exec /opt/python/bin/python3 -m fedminet.main "$@"
EOF
  chmod 755 "$root/opt/fedminet/bin/fedminet"
  chroot "$root" useradd --system --home-dir /srv/fedminet "$user"
  cp -a "$work/srv/." "$root/srv/fedminet/"
  chroot "$root" chown -R "$user:" /srv/fedminet
  cp "$source/docker/systemd/fedminet-walls.nft" "$root/etc/fedminet/"
  cp "$work"/units/*.service "$root/etc/systemd/system/"
  for unit in fedminet-server fedminet-site; do
    mkdir "$root/etc/systemd/system/$unit.service.d"
    printf '[Service]\nEnvironment=%s\n' "$environment" > "$root/etc/systemd/system/$unit.service.d/trial.conf"
  done
}

install_trial() {
  cat > "$root/etc/systemd/system/trial.service" <<EOF
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=500
Environment=$environment
WorkingDirectory=/srv/fedminet
ExecStart=/bin/bash /out/trial.sh
StandardOutput=append:/out/log
StandardError=append:/out/log
ExecStopPost=/usr/bin/systemctl exit 0 --no-block
EOF
  cat > "$work/out/trial.sh" <<'EOF'
as() { runuser -u "$1" -- "${@:2}"; }
seen() { echo "$1" >> /out/seen; }
until_true() { for _ in $(seq 120); do "$@" && return; sleep 1; done; return 1; }
reaches() { as "$1" bash -c 'exec 3<> /dev/tcp/127.0.0.1/9443' 2> /dev/null; }

systemctl start fedminet-server
until_true reaches root
systemctl start fedminet-site
for user in root fedminet www-data nobody; do reaches "$user" && seen "$user reaches"; done
as fedminet /opt/fedminet/bin/fedminet server run coordinator --name trial && seen ran
for unit in fedminet-site fedminet-server; do
  seen "$unit restarts: $(systemctl show "$unit" --property NRestarts --value)"
  systemctl stop "$unit"
  seen "$unit: $(systemctl show "$unit" --property ActiveState --property Result --value | xargs)"
done
sleep 1
seen "left: $(pgrep --count --uid fedminet)"
journalctl --no-pager --output cat --lines 60 || true
tail --lines 20 coordinator/logs/*.log sms/logs/*.log
EOF
}

boot
libraries=$(cd "$source" && python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir "$root/opt/libraries"
mount --bind "$libraries" "$root/opt/libraries"
environment="LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/source:/opt/libraries PYTHONDONTWRITEBYTECODE=1"
install_program
install_trial
ip link set lo up
exec env --ignore-environment container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  chroot "$root" /lib/systemd/systemd --log-target=null --show-status=no --unit=trial.service
