#!/usr/bin/env bash
# Tests and measures on a machine with a GPU that has a driver and no .NET, no compiler, no network.
#
#   bench/gpu.sh pack [--alone]            here: publishes tests and command, self-contained, into out/gpu/kernels-gpu.tar.xz
#   bench/gpu.sh run [--budget SECONDS]    there, in the same checkout with that file: tests, packs, benches, rivals, profile; the most important first
#   bench/gpu.sh report FOLDER             here: the results of a run into bench/results/DEVICE-DATE/, tables, and the table of the README
#
# pack --alone is for a machine that has NVRTC and to which little can be carried: the archive holds this script, the rivals, the weights and the packs that every precision is held
# against, and no compiler; unpacked in an empty folder it needs no checkout.
# run takes --results FOLDER (out/gpu/results) and --only PART,PART, which adds to what an earlier run left there: where a command may take ten minutes, --budget 540 and several of
# them. A part that fails or does not fit into the budget is a line of SUMMARY.md, and the others go on. Without a GPU it tries everything out on the CPU, as small as it can be, and
# says what it left out. PYTHON names the Python that has PyTorch.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
out="$root/out/gpu"
archive="$out/kernels-gpu.tar.xz"
bin="$out/bin"
largest=$((60 << 20))

die() { echo "gpu.sh: $*" >&2; exit 1; }

pack() {
    command -v dotnet >/dev/null || die "the .NET 10 SDK is needed to pack: https://dot.net"
    local members=(out/gpu/bin)
    case ${1:-} in
        '') ;;
        --alone) members+=(bench/gpu.sh bench/peers/*.py weights/*.* tests/packs/{unet*,superres,classifier-a*,sample-ddpm-guided}.safetensors) ;;
        *) die "pack takes --alone; not $1" ;;
    esac
    rm -rf "$bin" && mkdir -p "$bin" || exit 1
    local project
    # The command last: what it has in common with the tests is the same, and its settings must be those of a program of its own.
    for project in tests src/Cli; do
        dotnet publish "$project" -c Release -r linux-x64 --self-contained -o "$bin" -p:DebugType=none -clp:ErrorsOnly --nologo || die "$project could not be published"
    done
    # Tests find each other by reflection, so nothing is trimmed but what belongs to other runners, other systems and coverage. Packs and weights are in the checkout.
    (cd "$bin" && rm -rf packs weights CodeCoverage alpine macos ubuntu arm64 x64 x86 cs de es fr it ja ko pl pt-BR ru tr zh-Hans zh-Hant \
        Microsoft.CodeCoverage* Microsoft.VisualStudio.TraceDataCollector.dll Mono.Cecil* ./*.xml createdump libmscordaccore.so libmscordbi.so libcoreclrtraceptprovider.so)
    # A compiler in case there is none, under the name that the loader asks for.
    local library
    [ ${#members[@]} -gt 1 ] || mkdir -p "$bin/nvrtc"
    [ ${#members[@]} -gt 1 ] || for library in $(find "$root/.nvrtc" \( -name 'libnvrtc.so.*[0-9]' -o -name 'libnvrtc-builtins.so.*[0-9]' \) -type f 2>/dev/null); do
        cp "$library" "$bin/nvrtc/$(basename "$library" | sed 's/^\(libnvrtc\.so\.[0-9]*\).*/\1/; s/^\(libnvrtc-builtins\.so\.[0-9]*\.[0-9]*\).*/\1/')"
    done
    git rev-parse HEAD >"$bin/commit" 2>/dev/null
    tar -cf - "${members[@]}" | xz -T0 -6 >"$archive.part" && mv "$archive.part" "$archive" || die "the archive could not be written"
    local bytes
    bytes=$(stat -c %s "$archive")
    echo "$archive: $((bytes >> 20)) MiB"
    [ "$bytes" -lt "$largest" ] || die "that is more than $((largest >> 20)) MiB"
}

# What the archive holds and the checkout lacks; not every machine has xz.
unpack() {
    [ -f "$archive" ] || die "there is no $archive; bench/gpu.sh pack makes it where the .NET SDK is"
    tar --skip-old-files -xJf "$archive" 2>/dev/null || "$python" -m tarfile -e "$archive" . || die "$archive cannot be unpacked"
}

wanted() { [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]; }

# absent NAME WHY: notes a part that this machine cannot do.
absent() { ! wanted "$1" || note "$1" "left out" 0 "$2"; }

# part NAME SECONDS COMMAND...: runs one part within its limit and what is left of the budget, and notes how it went.
part() {
    local name=$1 limit=$2 began=$SECONDS status last log="$work/$1.log"
    shift 2
    wanted "$name" || return 0
    local left=$((budget - SECONDS - 20))
    if [ "$left" -lt 15 ]; then
        note "$name" "left out" 0 "no time was left"
        return 0
    fi
    [ "$left" -lt "$limit" ] && limit=$left
    echo "== $name (at most $limit s)" >&2
    printf '$ %s\n' "$*" >"$log"
    # An interrupted bench writes what it has measured; it is given time for that.
    [ "$(type -t "$1")" = function ] && set -- bash -uc '"$@"' "$1" "$@"
    timeout -s INT -k 30 "$limit" "$@" >>"$log" 2>&1 </dev/null
    status=$?
    last=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 | tr '|' '/' | cut -c1-200)
    case $status in
        0) note "$name" "done" $((SECONDS - began)) "$last" ;;
        124 | 130 | 137) note "$name" "cut off" $((SECONDS - began)) "$last" ;;
        *) note "$name" "FAILED ($status)" $((SECONDS - began)) "$last" ;;
    esac
}

note() {
    echo "   $1: $2, $3 s. $4" >&2
    echo "| $1 | $2 | $3 | $4 |" >>"$work/parts"
    summary
}

summary() {
    {
        echo "# Run of $(date -u +%Y-%m-%dT%H:%M:%SZ)"
        echo
        if [ -n "$gpu" ]; then echo "Device: $gpu"; else echo "No GPU: everything was tried out on the CPU, as small as it can be. These are no figures of a GPU."; fi
        echo
        echo "Commit: $(cat "$bin/commit" 2>/dev/null || git rev-parse HEAD 2>/dev/null || echo unknown)"
        echo
        echo "| part | result | seconds | last line |"
        echo "|---|---|---|---|"
        cat "$work/parts"
        echo
        echo '```'
        cat "$work/environment.log" 2>/dev/null
        echo '```'
    } >"$results/SUMMARY.md"
}

environment() {
    uname -sr
    grep -m 1 'model name' /proc/cpuinfo
    nvidia-smi 2>&1 | head -n 20
    nvcc --version 2>&1 | tail -n 2
    echo "NVRTC: ${KERNELS_NVRTC:-found on the machine}"
    "$python" -c 'import sys, torch; print("Python", sys.version.split()[0], "PyTorch", torch.__version__, "CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version())' 2>&1 | tail -n 1
    return 0
}

# The packs that hold models, at every precision; fp32 by the packs' own tolerances, the others by what the tests allow twice over.
verify_packs() {
    local failed=0 precision tolerance pack
    for precision in $precisions; do
        case $precision in fp32) tolerance= ;; tf32 | fp16) tolerance=0.02 ;; *) tolerance=0.1 ;; esac
        echo "-- $precision"
        # A classifier whose rectifier flips takes another course at 16 bits, in PyTorch too.
        local packs=("$root"/tests/packs/{unet,superres,classifier,sample,demo}*.safetensors)
        [ "$precision" = fp32 ] || packs=("$root"/tests/packs/{unet*,superres,classifier-a*,sample-ddpm-guided}.safetensors)
        [ -n "$gpu" ] || packs=("$root"/tests/packs/{unet-adm,classifier-attention}.safetensors)
        for pack in "${!packs[@]}"; do [ -f "${packs[pack]}" ] || unset "packs[pack]"; done
        "$kernels" verify "${packs[@]}" --device "$device" $([ -n "$gpu" ] && echo --precision "$precision") ${tolerance:+--tolerance "$tolerance"} || failed=$?
    done
    return "$failed"
}

# run_tests DEVICE CLASS...: the classes on a device; that none is there is a failure.
run_tests() {
    local classes=() class log="$work/tests.out" status
    export KERNELS_TEST_DEVICE=$1
    shift
    for class in "$@"; do classes+=(-class "$class"); done
    "$tests" -noColor "${classes[@]}" | tee "$log"
    status=${PIPESTATUS[0]}
    ! grep -q 'Total: 0' "$log" || { echo "no test was found"; status=1; }
    return "$status"
}

sanitize() {
    local tool failed=0
    for tool in memcheck racecheck synccheck initcheck; do
        echo "-- $tool"
        compute-sanitizer --tool "$tool" --error-exitcode 9 "$kernels" verify "$root/tests/packs/unet-adm.safetensors" "$root/tests/packs/classifier-attention.safetensors" --device cuda || failed=$?
    done
    return "$failed"
}

run() {
    budget=1500 results="$out/results" only=
    while [ $# -gt 0 ]; do
        case $1 in
            --budget) budget=${2:?} ;;
            --results) results=${2:?} ;;
            --only) only=${2:?} ;;
            *) die "run takes --budget SECONDS, --results FOLDER and --only PART,PART; not $1" ;;
        esac
        shift 2
    done
    [[ $budget =~ ^[0-9]+$ ]] || die "--budget is $budget; it is a number of seconds"
    SECONDS=0 device= precisions=
    mkdir -p "$results" || die "$results cannot be written"
    results=$(cd "$results" && pwd)
    work=$(mktemp -d) || exit 1
    [ -n "$only" ] || rm -f "$results"/*
    # The lines of earlier parts, but for those that are run again.
    sed -n '/^| part |/,/^$/p' "$results/SUMMARY.md" 2>/dev/null | tail -n +3 | grep -vE "^\| (${only//,/|}) \||^$" >"$work/parts"
    [ ! -f "$results/logs.txt.gz" ] || mv "$results/logs.txt.gz" "$work/earlier.gz"
    trap 'finish' EXIT
    gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
    python=${PYTHON:-$(command -v python3 || echo python3)}
    kernels=${KERNELS:-$bin/kernels} tests=${KERNELS_TESTS:-$bin/Kernels.Tests}
    if [ -z "${KERNELS:-}" ]; then
        [ -x "$kernels" ] || unpack
        ln -sfn "$root/tests/packs" "$bin/packs"
        ln -sfn "$root/weights" "$bin/weights"
    fi
    # The compiler that the machine has goes before the one that was packed, which may be older; that of this Python is named, as it need not be the Python on the path.
    if [ -z "${KERNELS_NVRTC:-}" ]; then
        local nvrtc
        nvrtc=$("$python" -c 'import glob, os, site; print(*(os.path.dirname(p) for d in site.getsitepackages() for p in glob.glob(d + "/nvidia/*/lib/libnvrtc.so*")), sep="\n")' 2>/dev/null |
            sed -n 1p)
        if [ -d "$nvrtc" ]; then
            export KERNELS_NVRTC="$nvrtc"
        elif [ -d "$bin/nvrtc" ] && [[ $(ldconfig -p 2>/dev/null) != *libnvrtc.so* ]] && ! compgen -G '/usr/local/cuda*/lib64/libnvrtc.so*' >/dev/null; then
            export KERNELS_NVRTC="$bin/nvrtc"
        fi
    fi
    # What one run has compiled serves the next.
    export KERNELS_CACHE=${KERNELS_CACHE:-$out/cache}
    export root kernels tests gpu python work device precisions
    export -f verify_packs run_tests sanitize rivals
    environment >"$work/environment.log"
    summary
    if [ -n "$gpu" ]; then on_gpu; else on_cpu; fi
}

on_gpu() {
    device=cuda precisions="fp32 tf32 fp16 bf16"
    local all=fp32,tf32,fp16,bf16
    part packs 200 verify_packs
    # With half of the packs those tests would only complain of the others.
    local recorded=
    [ ! -f tests/packs/encode-ddim.safetensors ] || recorded='Kernels.Tests.Backends.Gpu.ReferencePackTests'
    part tests 200 run_tests cuda 'Kernels.Tests.Backends.Gpu.SamplingTests' $recorded 'Kernels.Tests.Backends.Gpu.StepOnEmulatorTests' 'Kernels.Tests.Ops.*'
    part steps 200 "$kernels" bench --device cuda --model adm64,shapes32 --batch 1,4,16 --precision $all --time-limit 2 --json "$results/steps.json"
    part profile 60 "$kernels" profile --device cuda --model adm64 --batch 4 --precision fp16 --json "$results/profile.json" --html "$results/profile.html"
    # The emulator and what is compiled for it, with the compiler that this machine has: any major is to do.
    part compiler 150 run_tests emulator 'Kernels.Tests.PtxEmulator.*' 'Kernels.Tests.Backends.Gpu.KernelCompilerTests'
    part rivals 420 rivals "$results/steps.json" steps 400
    part larger 300 "$kernels" bench --device cuda --model adm256,adm128,adm512 --batch 1,4 --precision fp16,bf16,fp32 --time-limit 2 --json "$results/larger.json"
    part kernels 240 "$kernels" bench --device cuda --model adm64,adm256 --batch 4 --precision fp16,bf16 --kernels --time-limit 0.3 --json "$results/kernels.json"
    part rival-kernels 300 rivals "$results/kernels.json" kernels 280 --time-limit 0.3
    part larger-rivals 400 rivals "$results/larger.json" larger 380
    if command -v compute-sanitizer >/dev/null; then part sanitizer 240 sanitize; else absent sanitizer "compute-sanitizer is not installed"; fi
    if command -v nsys >/dev/null; then
        part nsys 60 nsys profile -o "$work/trace" --trace cuda,nvtx --cuda-graph-trace node "$kernels" profile --device cuda --model shapes32 --repeats 2 --time-limit 0.1
    else
        absent nsys "Nsight Systems is not installed"
    fi
}

on_cpu() {
    device=cpu precisions=fp32
    part packs 120 verify_packs
    part tests 120 run_tests emulator 'Kernels.Tests.Measurement.ReportComparisonTests' 'Kernels.Tests.Measurement.SideBySideTests'
    part compiler 120 run_tests emulator 'Kernels.Tests.PtxEmulator.LanguageKernelTests' 'Kernels.Tests.Backends.Gpu.KernelCompilerTests'
    part steps 60 "$kernels" bench --device cpu --model shapes32 --time-limit 0.2 --json "$results/steps.json"
    part profile 60 "$kernels" profile --device cpu --repeats 1 --time-limit 0.1 --json "$results/profile.json" --html "$results/profile.html"
    part kernels 60 "$kernels" bench --device cpu --model shapes32 --kernels Attention --time-limit 0.05 --json "$results/kernels.json"
    part rivals 120 rivals "$results/steps.json" steps 100 --device cpu --time-limit 0.2
    part rival-kernels 60 rivals "$results/kernels.json" kernels 50 --device cpu --time-limit 0.05
    local name
    for name in larger larger-rivals sanitizer nsys; do
        absent "$name" "there is no GPU"
    done
}

# rivals REPORT NAME SECONDS OPTIONS...: PyTorch on what a report holds; into one file, as there may be only eight.
rivals() {
    local like=$1 name=$2 seconds=$3
    shift 3
    [ -f "$like" ] || { echo "there is no $(basename "$like") to go by"; return 1; }
    "$python" -c 'import torch' || { echo "$python has no PyTorch"; return 1; }
    "$python" "$root/bench/peers/gpu.py" --like "$like" --output "$work/rivals-$name.json" --budget "$seconds" "$@"
}

# One file of all rivals and one of all logs: at most eight files come back from such a machine.
finish() {
    [ -n "${work:-}" ] || return 0
    local files=("$work"/rivals-*.json) earlier=()
    [ ! -f "$results/rivals.json" ] || earlier=("$results/rivals.json")
    [ -f "${files[0]}" ] && "$python" "$root/bench/peers/report.py" "$results/rivals.json" "${earlier[@]}" "${files[@]}"
    {
        [ ! -f "$work/earlier.gz" ] || gzip -dc "$work/earlier.gz"
        for log in "$work"/*.log; do echo "=== $(basename "$log" .log)"; cat "$log"; echo; done
    } | gzip -9 >"$results/logs.txt.gz"
    rm -rf "$work"
    echo "results: $results" >&2
    cat "$results/SUMMARY.md"
}

report() {
    local from=${1:-} readme="$root/README.md" to="$root/bench/results" files=() name
    [ -f "$from/SUMMARY.md" ] || die "report takes the folder that run wrote; there is no SUMMARY.md in '$from'"
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --readme) readme=${2:?} ;;
            --to) to=${2:?} ;;
            *) die "report takes a folder, --readme FILE and --to FOLDER; not $1" ;;
        esac
        shift 2
    done
    for name in steps larger kernels rivals; do [ -f "$from/$name.json" ] && files+=("$from/$name.json"); done
    [ ${#files[@]} -gt 0 ] || die "there is no report in $from: nothing was measured"
    field() { sed -n "s/^ *\"$1\": \"\\(.*\\)\",\\{0,1\\}\$/\\1/p" "${files[0]}" | head -n 1; }
    local slug
    slug=$(field device | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-' | sed 's/^-//; s/-$//')-$(field date | cut -c1-10)
    to="$to/$slug"
    mkdir -p "$to" || die "$to cannot be written"
    cp "$from"/* "$to/" || exit 1
    local command=("${KERNELS:-}")
    [ -n "${KERNELS:-}" ] || command=(dotnet run -c Release --project "$root/src/Cli" --)
    local into=()
    if [ "$(field kind)" = cuda ]; then into=(--summary "$readme"); else echo "no figures of a GPU: the README stays as it is" >&2; fi
    "${command[@]}" bench table "${files[@]}" --markdown "$to/tables.md" "${into[@]}" >/dev/null || die "the tables could not be made"
    echo "$to"
}

case ${1:-} in
    pack) shift; pack "$@" ;;
    run) shift; run "$@" ;;
    report) shift; report "$@" ;;
    *) sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 1 ;;
esac
