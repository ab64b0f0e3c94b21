#!/bin/bash
# Patroni as PID 1, with what differs between the servers in its environment.
password=$(cat /run/secrets/postgres-password)
export PATRONI_NAME="$HOSTNAME" PATRONI_SUPERUSER_PASSWORD="$password" PATRONI_REPLICATION_PASSWORD="$password"
export PATRONI_POSTGRESQL_CONNECT_ADDRESS="$HOSTNAME:5432" PATRONI_RESTAPI_CONNECT_ADDRESS="$HOSTNAME:8008"
exec patroni /etc/patroni.yml
