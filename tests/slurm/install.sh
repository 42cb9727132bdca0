#!/bin/bash
# Installs what tests/slurm needs, on Debian and Ubuntu, as root. The tests start the daemons themselves: the packages'
# own services, where an init runs, are not needed.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends slurmctld slurmd slurm-client slurmdbd munge mariadb-server
