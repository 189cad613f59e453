# Runs one server for one process and outlives that process just long enough to stop the server.
# Arguments: signal that stops the server at once, log file, folder to remove, command of the server.
# Commands come on standard input, one a line, and each is answered with one line; when standard
# input ends, the process we work for is gone, in whatever way.
# Only the server and its children are ever signalled: `alive` checks that the id is still our child.
trap '' HUP PIPE
stop=$1 log=$2 folder=$3
shift 3
pid= detached=

alive() {
    [ -n "$pid" ] && read -r stat 2>/dev/null <"/proc/$pid/stat" || return 1
    set -- ${stat##*) }
    [ "$2" = "$$" ] && [ "$1" != Z ]
}
children() {
    kids=
    read -r kids 2>/dev/null <"/proc/$pid/task/$pid/children"
    :
}
freeze() {
    alive || return 1
    kill -STOP "$pid" 2>/dev/null
    children
    seen=-
    while [ "$seen" != "$kids" ]; do
        seen=$kids
        [ -z "$kids" ] || kill -STOP $kids 2>/dev/null
        children
    done
}
thaw() {
    alive || return 1
    children
    kill -CONT $kids "$pid" 2>/dev/null
    :
}
murder() {
    freeze || return 1
    kill -KILL "$pid" $kids 2>/dev/null
    :
}

while read -r verb value; do
    case $verb in
    start)
        if alive; then echo running; else
            [ -z "$pid" ] || wait "$pid"
            "$@" </dev/null >>"$log" 2>&1 &
            pid=$!
            echo "pid $pid"
        fi
        ;;
    alive) if alive; then echo yes; else echo no; fi ;;
    signal) if alive && kill -s "$value" "$pid" 2>/dev/null; then echo yes; else echo no; fi ;;
    freeze) if freeze; then echo yes; else echo no; fi ;;
    thaw) if thaw; then echo yes; else echo no; fi ;;
    murder) if murder; then echo yes; else echo no; fi ;;
    reap)
        code=0
        [ -z "$pid" ] || { wait "$pid" 2>/dev/null || code=$?; }
        pid=
        echo "$code"
        ;;
    detach)
        detached=yes
        echo yes
        ;;
    *) echo "unknown" ;;
    esac
done

if [ -n "$detached" ]; then
    [ -z "$pid" ] || wait "$pid" 2>/dev/null
    exit 0
fi
if thaw; then
    kill -s "$stop" "$pid" 2>/dev/null
    turns=0
    while alive && [ "$turns" -lt 300 ]; do
        sleep 0.02
        turns=$((turns + 1))
    done
    murder
    wait "$pid" 2>/dev/null
fi
rm -rf "$folder"
