# `logged FILE COMMAND`: stderr goes to the file; if the command fails, its error is shown, or else the last line.
logged() {
  "${@:2}" 2> "$1" || {
    cause=$(sed -n '\|^error: |,$p' "$1" | tail -n 30)
    echo "${cause:-$(tail -n 1 "$1")}" >&2
    echo "the whole log: $1" >&2
    exit 1
  }
}
