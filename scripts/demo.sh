#!/bin/sh
# demo.sh - the main job, once through: set up, build, compile the shipped models, run real activations, compare, draw, generate text.
# Results lie in build/demo. May be run any number of times.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
demo=build/demo

say() { printf '\n== %s\n' "$*"; }

say "set-up (scripts/setup.sh)"
sh scripts/setup.sh

say "build (cmake, ninja; folder build/)"
[ -f build/CMakeCache.txt ] || cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release
cmake --build build --target attnc attn-run attn-bench attn-engine
attnc=build/tools/attnc
run=build/tools/attn-run
engine=build/examples/attn-engine
mkdir -p "$demo"

# First layer of every kind, out of the report: "local: 36 layers (0-2, 4-6, ...".
first_layers() { "$attnc" "$1" --report --context=64 | sed -n 's/^[A-Za-z0-9_]*: [0-9]* layers\{0,1\} (\([0-9]*\).*/\1/p'; }

# How many keys a text needs before the windows and chunks of a model cut anything; the queries are its last eight tokens.
# cohere2 stays short: its 64 KV heads would take a gigabyte in the oracle's doubles.
keys_of() {
    case $1 in
    llama4_scout) echo 8196 ;;
    mistral | gemma2) echo 4100 ;;
    gemma3 | gemma3_image | streaming_llm) echo 1030 ;;
    longformer | duo_attention) echo 600 ;;
    *) echo 200 ;;
    esac
}

check_model() { # so, layers, keys: from the start, and at the end of a text of so many keys
    for layer in $2; do
        "$run" "$1" --layer "$layer" --random 2,80,7 --check || return 1
        "$run" "$1" --layer "$layer" --random 1,8,7 --kv-len "$3" --check || return 1
    done
}

say "compile the shipped models for every CPU variant; check each kind, as this processor runs it, on random input against the f64 oracle"
printf '%-16s %-18s %10s %9s %6s %14s\n' model kinds compile size keys 'largest error'
failed=0
for file in examples/*.attn; do
    name=$(basename "$file" .attn)
    "$attnc" "$file" -o "$demo/$name.so" --time 2>"$demo/$name.time"
    layers=$(first_layers "$file")
    kinds=$("$attnc" "$file" --report --context=64 | sed -n 's/^\([A-Za-z0-9_]*\): [0-9]* layers\{0,1\} (.*/\1/p' | tr '\n' ' ')
    ms=$(sed -n 's/^ *total  *\([0-9.]* ms\).*/\1/p' "$demo/$name.time")
    size=$(($(wc -c <"$demo/$name.so") / 1024))
    if check_model "$demo/$name.so" "$layers" "$(keys_of "$name")" >"$demo/$name.check" 2>&1; then
        error=$(sed -n 's/.*check o: ok: max error \([0-9.e+-]*\),.*/\1/p' "$demo/$name.check" | sort -g | tail -n 1)
    else
        error=WRONG
        failed=1
        cat "$demo/$name.check" >&2
    fi
    printf '%-16s %-18s %10s %5s KiB %6s %14s\n' "$name" "$kinds" "$ms" "$size" "$(keys_of "$name")" "$error"
done

say "real input: layer 2 of the sentence encoder all-MiniLM-L6 on three sentences of 13, 8 and 15 tokens"
echo "+ attn-run minilm.so --layer 2 --lengths 13,8,15 --q q.npy --k k.npy --v v.npy --check --expect o.npy"
data=examples/minilm
"$run" "$demo/minilm.so" --layer 2 --lengths 13,8,15 --q $data/q.npy --k $data/k.npy --v $data/v.npy --out "$demo/minilm_o.npy" \
    --check --expect $data/o.npy --tolerance 3.5e-5 || failed=1

say "pictures of the masks with their tile classes"
for name in llama4_scout gpt_oss gemma3_image modernbert streaming_llm longformer bigbird duo_attention; do
    "$attnc" "examples/$name.attn" --picture="$demo/$name.svg"
    "$attnc" "examples/$name.attn" --picture="$demo/$name.png"
    echo "$demo/$name.svg  $demo/$name.png"
done

say "what was proved about Llama 4 at 131072 tokens"
"$attnc" examples/llama4_scout.attn --report --context=131072

say "two small language models (examples/engine): the loss on a held-out text, and Hugging Face's"
models=examples/engine/models
for name in llama4 gpt_oss; do
    loss=$("$engine" $models/$name.safetensors --loss $models/held_out.txt --window 512)
    expected=$(sed -n 's/.*"512": \([0-9.]*\).*/\1/p' $models/$name.expected.json)
    printf '%-8s %s  %s\n' $name "$loss" "$expected"
    awk "BEGIN { d = $loss - $expected; exit !(d <= 1e-4 && d >= -1e-4) }" || failed=1
done

say "and what they say, over the KV cache that their masks need"
prompt="In the beginning"
for name in llama4 gpt_oss; do
    for way in "" "--draft" "--fork 4 --batch"; do
        echo "+ attn-engine $name.safetensors --prompt '$prompt' --count 400 --page-size 16 --stats $way"
        # shellcheck disable=SC2086 # a list of words
        "$engine" $models/$name.safetensors --prompt "$prompt" --count 400 --page-size 16 --stats $way 2>"$demo/stats" >"$demo/text" || failed=1
        [ -n "$way" ] || { cp "$demo/text" "$demo/$name.txt"; printf '%s' "$prompt"; cat "$demo/text"; echo; }
        cmp "$demo/text" "$demo/$name.txt" || failed=1
        cat "$demo/stats"
    done
done

[ $failed = 0 ] || { echo "demo: something is WRONG, see above" >&2; exit 1; }
say "done; everything lies in $demo"
