#!/bin/sh
# A sweep on TPU virtual machines, each of which computes a share: one queued resource per share.
#
#   PROJECT=p ZONE=us-central1-a BUCKET=gs://b/lane_keep SHARES=4 PACKAGE='irl-bench[tpu] @ git+https://HOST/irl_bench' \
#       launch/cluster/tpu-queued.sh --algo=airl --env=lane_keep
#
# PACKAGE is what `pip install` takes. The machines' own Python may be older than 3.11, so uv brings one.
#
# The machines see no common folder. Each works on its own disk, copies its folder to
# $BUCKET/share-I once a minute, and begins with what is there. When all have ended:
#
#   gcloud storage cp --recursive "$BUCKET" runs/shares
#   python launch/merge.py runs/shares/share-* --out=runs/lane_keep
#
# A spot machine that is preempted becomes SUSPENDED. Run this script again: it deletes suspended
# and failed requests and makes them anew, and leaves those at work alone. A share that has ended
# keeps its machine, which costs, until this script is run again and deletes it.
set -eu
: "${PROJECT:?}" "${ZONE:?}" "${BUCKET:?}" "${SHARES:?}" "${PACKAGE:?}"
TYPE=${TYPE:-v5litepod-1}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
NAME=${NAME:-irl-bench}

for argument in "$@"; do
    case $argument in
    --out* | --shard*)
        echo "error: ${argument%%=*} is set for each share; leave it out" >&2
        exit 2
        ;;
    *[!A-Za-z0-9_.,:=/+-]*)
        echo "error: $argument holds a character that the startup script would read; leave it out" >&2
        exit 2
        ;;
    esac
done

startup=$(mktemp)
trap 'rm -f "$startup"' EXIT
share=0
while [ "$share" -lt "$SHARES" ]; do
    share=$((share + 1))
    name=$NAME-$share
    state=$(gcloud compute tpus queued-resources describe "$name" --project="$PROJECT" --zone="$ZONE" \
        --format='value(state.state)' 2>/dev/null || true)
    if gcloud storage ls "$BUCKET/share-$share/ended" >/dev/null 2>&1; then
        [ -z "$state" ] || gcloud compute tpus queued-resources delete "$name" --project="$PROJECT" --zone="$ZONE" --force --quiet
        echo "$name: has ended"
        continue
    fi
    case $state in
    '') ;;
    SUSPENDED | FAILED)
        gcloud compute tpus queued-resources delete "$name" --project="$PROJECT" --zone="$ZONE" --force --quiet
        ;;
    *)
        echo "$name: $state"
        continue
        ;;
    esac
    cat >"$startup" <<END
#!/bin/sh
out=/var/lib/irl-bench/run
there=$BUCKET/share-$share
# Leases are of processes here, and files that are being written have another name at first.
copy() { gcloud storage rsync --recursive --exclude='^leases/|\.part\$' "\$out" "\$there"; }
mkdir -p "\$out"
gcloud storage rsync --recursive "\$there" "\$out"
python3 -m pip install --target /var/lib/irl-bench/uv uv
uv=/var/lib/irl-bench/uv/bin/uv
export HOME=/var/lib/irl-bench
"\$uv" venv --python 3.11 /var/lib/irl-bench/venv
"\$uv" pip install --python /var/lib/irl-bench/venv/bin/python '$PACKAGE'
/var/lib/irl-bench/venv/bin/python -m irl_bench sweep $* --shard=$share/$SHARES --out="\$out" &
job=\$!
trap 'kill -TERM "\$job"' TERM
while kill -0 "\$job" 2>/dev/null; do
    sleep 60 & wait \$!
    copy
done
wait "\$job" && touch "\$out/ended"
copy
END
    gcloud compute tpus queued-resources create "$name" --node-id="$name" --project="$PROJECT" --zone="$ZONE" \
        --accelerator-type="$TYPE" --runtime-version="$RUNTIME" --spot \
        --metadata-from-file=startup-script="$startup"
done
