# Pretends to convert: $1 the source, $2 where the result goes, $3 the job's options.
set -eu

options=$3
option() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" "$options"; }

token=$(sed -n 's/^token: //p' "$1")
steps=$(option steps)
pause=$(option pause)
padding=$(option padding)

step=0
while [ "$step" -lt "$steps" ]; do
    sleep "$pause"
    step=$((step + 1))
    echo "Processing progress: Pretending: step $step ($((100 * step / steps))%)" >&2
done
{
    echo "# Source $token"
    head -c "$padding" /dev/zero | tr '\0' x
} >"$2"
