#!/bin/bash
# Starts Slurm's daemons and waits: the first process of namespaces of its own (see cluster.py), so that its end is the
# end of every daemon and of every process of every job.
#   tests/slurm/daemons.sh STATE      a directory with slurm.conf and slurmdbd.conf; STATE/up appears when jobs can run
set -euo pipefail
cd "$1"
state=$PWD
export PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$state/slurm.conf MYSQL_UNIX_PORT=$state/database.socket
mount --bind hosts /etc/hosts
hostname localhost

start() { # NAME COMMAND...
    "${@:2}" </dev/null >"$1.out" 2>&1 &
}
until_it() { # COMMAND...: until it succeeds; a daemon that has ended ends all
    local daemon
    until "$@" >/dev/null 2>&1; do
        for daemon in $(jobs -p); do kill -0 "$daemon" || exit 1; done
        sleep 0.1
    done
}
is_up() { # NODE
    sinfo --noheader --nodes "$1" --format %T | grep -qx idle
}

start munged munged --foreground --force --key-file=munge.key --socket=munge.socket --pid-file=munged.pid \
    --log-file=munged.log --seed-file=munge.seed
start mariadbd mariadbd --no-defaults --user="$(id -un)" --datadir="$state/database" --socket="$MYSQL_UNIX_PORT" \
    --skip-networking --pid-file="$state/mariadbd.pid" --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0
until_it munge --no-input --socket=munge.socket
until_it mariadb --no-defaults --user=root --execute='create database if not exists slurm'
start slurmdbd slurmdbd -D
until_it sacctmgr --noheader show cluster
sacctmgr --immediate add cluster test >add-cluster.out
start slurmctld slurmctld -D -i
for node in n1 n2; do
    # Each node has a host name of its own.
    start "slurmd-$node" unshare --uts sh -c "hostname $node && exec slurmd -D -N $node"
done
until_it is_up n1
until_it is_up n2
touch up
wait -n
