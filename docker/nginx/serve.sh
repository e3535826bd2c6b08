#!/bin/bash
# serve.sh serve    nginx, which takes up changed certificates, revocations and admissions within half a minute
# serve.sh health   whether it answers
set -euo pipefail

PKI=/pki
TEMPLATE=/etc/nginx/fedminet.conf.template
CONFIGURATION=/tmp/nginx.conf
LOOK_EVERY_S=5

say() { echo "proxy: $*" >&2; }

health() {
  exec 3<>/dev/tcp/127.0.0.1/8080
  printf 'GET /health HTTP/1.0\r\n\r\n' >&3
  read -r -t 4 answer <&3
  [[ $answer == *' 204 '* ]]
}

configure() {
  local resolver='' word value text
  while read -r word value _; do
    [[ $word == nameserver && -z $resolver ]] && resolver=$value
  done < /etc/resolv.conf
  [[ $resolver == *:* ]] && resolver="[$resolver]"
  text=$(< "$TEMPLATE")
  text=${text//@RESOLVER@/${resolver:-127.0.0.11}}
  printf '%s\n' "${text//@UPSTREAM@/$FEDMINET_UPSTREAM}" > "$CONFIGURATION"
}

state_of_pki() { cat "$PKI"/{ca.pem,server.pem,server.key,crl.pem,nodes.map} 2>&1 | sha256sum; }

is_valid() { nginx -e stderr -q -t -c "$CONFIGURATION"; }

serve() {
  local nginx='' taken='' found
  # The trap ends what was started, whatever this script waits for.
  trap '[[ -n $nginx ]] && kill -TERM "$nginx" 2>/dev/null; wait; exit 0' TERM INT
  configure
  until found=$(state_of_pki) && is_valid; do
    say "waiting for the coordinator's certificates in $PKI"
    sleep "$LOOK_EVERY_S" & wait $!
  done
  rm -f /tmp/tls.sock  # of an nginx that was killed, which could not remove it
  nginx -e stderr -c "$CONFIGURATION" -g 'daemon off;' &
  nginx=$!
  taken=$found
  say "serves"
  while kill -0 "$nginx" 2>/dev/null; do
    sleep "$LOOK_EVERY_S" & wait $! || true
    found=$(state_of_pki)
    [[ $found == "$taken" ]] && continue
    if is_valid; then
      kill -HUP "$nginx"
      taken=$found
      say "took up what has changed in $PKI"
    else
      say "what has changed in $PKI is not valid; going on with what was there before"
    fi
  done
  wait "$nginx"
}

case ${1:-serve} in
  serve) serve ;;
  health) health ;;
  *) say "serve or health?"; exit 2 ;;
esac
