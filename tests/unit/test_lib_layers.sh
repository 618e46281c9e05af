#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_lib_layers.sh LIBRARY SOURCE...: each file of the library refers only to files that stand before it in the list of
# sources, which is the order that lib/README.md states. Headers come from the file's own layer or from one before it.
set -eu
library=$1
shift

sources=
for path; do
    sources="$sources ${path##*lib/}"
done

# "ok|bad FILE SYMBOL FILE" for each symbol that one file uses and another one defines
calls() {
    nm -A "$library" | awk -v sources="$sources" '
        BEGIN {
            n = split(sources, name, " ")
            for (i = 1; i <= n; i++) {
                object = name[i] ".o"
                gsub("/", "_", object)
                rank[object] = i
            }
        }
        {
            split($1, part, ":")
            if ($(NF - 1) == "U")
                uses[part[2] " " $NF]
            else if ($(NF - 1) ~ /[TDBR]/)
                home[$NF] = part[2]
        }
        END {
            for (use in uses) {
                split(use, u, " ")
                if (!(u[2] in home))
                    continue
                from = rank[u[1]]
                to = rank[home[u[2]]]
                print (from && to && to <= from ? "ok" : "bad"), name[from], u[2], name[to]
            }
        }'
}

# The layers, in their order.
layers=$(for source in $sources; do echo "${source%%/*}"; done | uniq)

# "FILE LAYER" for each layer of which a file, or a header beside it, includes something
includes() {
    for path; do
        sed -n 's|^#include "\([a-z]*\)/.*|\1|p' "$path" "${path%/*}"/*.h | sort -u | grep -v '^uzram$' |
            while read -r layer; do echo "${path##*lib/} $layer"; done
    done
}

place() { # LAYER
    echo "$layers" | grep -nx "$1" | cut -d : -f 1
}

calls=$(calls)
echo "$calls" | grep -q '^ok store/io.c uz_slot_read ' || { echo "no calls found in $library" && exit 1; }
complaints=$(
    echo "$calls" | sed -n 's|^bad \(.*\) \(.*\) \(.*\)|lib/\1 uses \2 of lib/\3, which stands after it in lib/meson.build|p'
    includes "$@" | while read -r file layer; do
        [ "$(place "$layer")" -le "$(place "${file%%/*}")" ] || echo "lib/$file includes a header of lib/$layer/, a later layer"
    done
)
[ -z "$complaints" ] || { echo "$complaints" && exit 1; }
