/* emit.c - the driver of the CPU backend: all kinds and targets into LLVM modules, those to text, object, library or header. */
#define _POSIX_C_SOURCE 200809L
#include "backends/cpu/unit.h"

#include <attn/abi.h>
#include <ctype.h>
#include <errno.h>
#include <llvm-c/TargetMachine.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const cpu_target targets[TARGET_COUNT] = {
    [TARGET_CPU_BASELINE] = {.suffix = "baseline", .cpu = "x86-64", .isa = ATTN_ISA_BASELINE},
    [TARGET_CPU_AVX2] = {.suffix = "avx2", .cpu = "x86-64-v3", .isa = ATTN_ISA_AVX2, .fma = true, .round = true, .half = true},
    [TARGET_CPU_AVX512] = {.suffix = "avx512", .cpu = "x86-64-v4", .isa = ATTN_ISA_AVX512, .fma = true, .scalef = true, .masked = true,
                           .round = true, .half = true},
    /* without fast-dpwssd the code generator makes two instructions of vpdpwssd */
    [TARGET_CPU_AVX512BF16] = {.suffix = "avx512bf16", .cpu = "x86-64-v4", .features = "+avx512bf16,+avx512vnni,+fast-dpwssd", .isa = ATTN_ISA_AVX512BF16,
                               .fma = true, .scalef = true, .masked = true, .round = true, .half = true, .dot_bf16 = true, .dot_int8 = true},
};

target_id backend_cpu_native(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")) return TARGET_CPU_AVX512BF16;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vl"))
        return TARGET_CPU_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return TARGET_CPU_AVX2;
    return TARGET_CPU_BASELINE;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- a session: one module, or one for the descriptor and one per target ------------------------------------------------------------ */

typedef struct session {
    unit *units;
    size_t n_units;
    uint64_t instructions, largest; /* of all functions; of one */
    cpu_target chosen[TARGET_COUNT]; /* as targets[], with this machine's name when native */
} session;

/* Where several objects may become one file, code is compiled side by side: the descriptor and what any processor runs, and for each target
 * the kernels and what they share. */
static void open_session(session *s, arena *a, const ir_module *m, size_t n_variants, const backend_options *o)
{
    *s = (session){.n_units = o->emit == EMIT_SO ? 1 + 2 * n_variants : 1};
    s->units = ARENA_ARRAY(a, unit, s->n_units);
    unit_open_llvm();
    for (size_t i = 0; i < s->n_units; i++) unit_open(&s->units[i], a, m);
    for (size_t i = 1; i < s->n_units; i += 2) s->units[i].g.for_shared = &s->units[i + 1].g;
    memcpy(s->chosen, targets, sizeof targets);
}

static void close_session(session *s)
{
    for (size_t i = 0; i < s->n_units; i++) unit_close(&s->units[i]);
}

static arena *arena_of(const session *s) { return s->units[0].g.arena; }

static void use_this_machine(session *s, target_id t)
{
    char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    s->chosen[t].cpu = arena_strdup(arena_of(s), cpu);
    s->chosen[t].features = arena_strdup(arena_of(s), features);
    s->chosen[t].suffix = "native";
    s->chosen[t].isa = ATTN_ISA_NATIVE;
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
}

/* ---- building ------------------------------------------------------------------------------------------------------------------------ */

/* LLVM's time grows with a module, and faster than a function: beyond these numbers of instructions it is told not to try hard, then not
 * asked at all. An ordinary kernel has 3000. */
enum { OPTIMISED_FUNCTION = 25000, OPTIMISED_MODULE = 600000, MOST_FUNCTION = 150000, MOST_MODULE = 2000000 };

/* Adds what was written into a unit since the last time; false when it is too much. */
static bool count_code(session *s, unit *u, const pattern *p, diags *d)
{
    unit_count(u, &s->instructions, &s->largest);
    if (u->g.for_shared) unit_count(u + 1, &s->instructions, &s->largest);
    if (s->instructions <= MOST_MODULE && s->largest <= MOST_FUNCTION) return true;
    if (s->largest > MOST_FUNCTION)
        diag_report(d, DIAG_ID_TOO_LARGE, p->where, "pattern %s: its kernel comes to more than %d instructions", p->name, MOST_FUNCTION);
    else
        diag_report(d, DIAG_ID_TOO_LARGE, p->where, "the kernels of this model come to more than %d instructions", MOST_MODULE);
    diag_add_hint(d, "write smaller formulas%s", s->largest > MOST_FUNCTION ? "" : ", fewer patterns, or ask for fewer targets: --target=cpu:native");
    return false;
}

static void choose_effort(session *s, diags *d)
{
    if (s->instructions <= OPTIMISED_MODULE && s->largest <= OPTIMISED_FUNCTION) return;
    diag_report(d, DIAG_ID_UNOPTIMISED, s->units[0].g.ir->patterns.at[0]->where,
                "the kernels of this model are so large (%llu instructions, %llu in one function) that their code is not optimised",
                (unsigned long long)s->instructions, (unsigned long long)s->largest);
    for (size_t i = 0; i < s->n_units; i++) unit_do_not_optimise(&s->units[i]);
}

/* The kernels of a target. */
static bool build_variant(session *s, size_t v, const backend_variant *variant, kernel_code *kernels, diags *d)
{
    unit *u = &s->units[s->n_units > 1 ? 1 + 2 * v : 0];
    gen *first = &s->units[0].g;
    const ir_module *m = first->ir;
    u->g.target = gen_of_shared(&u->g)->target = &s->chosen[variant->target];
    for (size_t i = 0; i < m->patterns.n; i++) {
        const kernel *k = variant->kernels[i];
        const char *wrong = emit_kernel(&u->g, k, &kernels[i]);
        if (wrong) {
            diag_report(d, DIAG_ID_UNSUPPORTED, m->patterns.at[k->pattern]->where, "pattern %s for %s: %s", k->name,
                        target_get(variant->target)->name, wrong);
            return false;
        }
        if (!count_code(s, u, m->patterns.at[k->pattern], d)) return false;
        if (&u->g == first) continue;
        kernels[i].run = import_function(first, kernels[i].run);
        kernels[i].merge = import_function(first, kernels[i].merge);
    }
    return true;
}

static bool build(session *s, const backend_variant *variants, size_t n_variants, const backend_options *o, diags *d, const char *symbol)
{
    gen *g = &s->units[0].g;
    size_t n = g->ir->patterns.n;
    kind_code *kinds = ARENA_ARRAY(g->arena, kind_code, n + 1);
    kernel_code *kernels = ARENA_ARRAY(g->arena, kernel_code, n * n_variants + 1);
    g->target = &targets[TARGET_CPU_BASELINE];
    for (size_t i = 0; i < n; i++) kinds[i] = emit_kind_code(g, variants[0].kernels[i]);
    for (size_t v = 0; v < n_variants; v++) {
        if (o->native) use_this_machine(s, variants[v].target);
        if (!build_variant(s, v, &variants[v], &kernels[v * n], d)) return false;
    }
    emit_module_desc(g, kinds, kernels, n_variants, o, symbol);
    choose_effort(s, d);
    for (size_t i = 0; i < s->n_units; i++) unit_verify(&s->units[i]);
    return true;
}

/* ---- files ------------------------------------------------------------------------------------------------------------------------------ */

static bool to_stdout(const backend_options *o) { return !o->output || !strcmp(o->output, "-"); }

static bool file_error(diags *d, const char *path, const char *what)
{
    diag_report(d, DIAG_ID_FILE_ERROR, SPAN_NONE, "%s: %s", path, what);
    return false;
}

/* Never over a device or a pipe: renaming would put a file in its place. */
static bool rename_into_place(const char *from, const char *to, diags *d)
{
    struct stat s;
    if (!stat(to, &s) && !S_ISREG(s.st_mode)) {
        remove(from);
        return file_error(d, to, "not an ordinary file");
    }
    if (!rename(from, to)) return true;
    int error = errno;
    remove(from);
    return file_error(d, to, strerror(error));
}

static bool write_whole(const char *path, const char *data, size_t n, diags *d)
{
    FILE *f = fopen(path, "wb");
    if (!f) return file_error(d, path, strerror(errno));
    bool ok = fwrite(data, 1, n, f) == n;
    ok &= !fclose(f);
    if (ok) return true;
    int error = errno;
    remove(path);
    return file_error(d, path, strerror(error));
}

static bool write_text(const char *path, const char *data, size_t n, diags *d, arena *a)
{
    const char *temporary = arena_printf(a, "%s.tmp%ld", path, (long)getpid());
    return write_whole(temporary, data, n, d) && rename_into_place(temporary, path, d);
}

static bool write_or_print(const backend_options *o, const char *data, size_t n, diags *d, arena *a)
{
    if (!to_stdout(o)) return write_text(o->output, data, n, d, a);
    return fwrite(data, 1, n, stdout) == n && !fflush(stdout) ? true : file_error(d, "standard output", "cannot write");
}

static const char *module_symbol(arena *a, const ir_module *m, emit_kind kind)
{
    if (kind != EMIT_OBJ) return ATTN_MODULE_SYMBOL;
    char *name = arena_printf(a, "%s_%s", ATTN_MODULE_SYMBOL, m->name);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '_';
    return name;
}

static bool write_header(const backend_options *o, const char *symbol, const ir_module *m, diags *d, arena *a)
{
    text t = {.arena = a};
    text_printf(&t, "/* Made by attnc from the model %s. Link the object beside it; open with attn_module_open(&%s, ..). */\n", m->name, symbol);
    text_printf(&t, "#ifndef ATTN_KERNEL_%s\n#define ATTN_KERNEL_%s\n\n#include <attn/abi.h>\n\n", symbol, symbol);
    text_printf(&t, "#ifdef __cplusplus\nextern \"C\" {\n#endif\nextern const attn_module_desc %s;\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n", symbol);
    return write_text(o->header, text_get(&t), t.n, d, a);
}

static bool emit_text(session *s, const backend_options *o, diags *d)
{
    unit *u = &s->units[0];
    if (o->emit == EMIT_LLVM) {
        char *ir = LLVMPrintModuleToString(u->g.module);
        bool ok = write_or_print(o, ir, strlen(ir), d, u->g.arena);
        LLVMDisposeMessage(ir);
        return ok;
    }
    units_compile(u, 1, LLVMAssemblyFile);
    return write_or_print(o, LLVMGetBufferStart(u->code), LLVMGetBufferSize(u->code), d, u->g.arena);
}

/* In memory first: LLVM ends the program when a file cannot take what it writes. */
static bool write_objects(const session *s, char *const *paths, diags *d)
{
    for (size_t i = 0; i < s->n_units; i++) {
        const LLVMMemoryBufferRef code = s->units[i].code;
        if (!write_whole(paths[i], LLVMGetBufferStart(code), LLVMGetBufferSize(code), d)) return false;
    }
    return true;
}

static bool emit_binary(session *s, const backend_options *o, diags *d, backend_times *times)
{
    arena *a = arena_of(s);
    if (to_stdout(o)) return file_error(d, "standard output", "an object or a library needs a file name: -o kernel.so");
    char **objects = ARENA_ARRAY(a, char *, s->n_units);
    for (size_t i = 0; i < s->n_units; i++) objects[i] = arena_printf(a, "%s.tmp%ld.%zu.o", o->output, (long)getpid(), i);
    char *library = arena_printf(a, "%s.tmp%ld", o->output, (long)getpid());
    double t0 = now_ms();
    units_compile(s->units, s->n_units, LLVMObjectFile);
    double t1 = now_ms();
    bool ok = write_objects(s, objects, d);
    if (ok && o->emit == EMIT_SO)
        ok = link_library(a, (const char *const *)objects, s->n_units, library, d) && rename_into_place(library, o->output, d);
    else if (ok)
        ok = rename_into_place(objects[0], o->output, d);
    for (size_t i = 0; i < s->n_units; i++) remove(objects[i]);
    remove(library);
    times->codegen = t1 - t0;
    times->link = now_ms() - t1;
    return ok;
}

bool backend_cpu_emit(const ir_module *m, const backend_variant *variants, size_t n_variants, const backend_options *o, diags *d)
{
    arena *a = arena_create(0, NULL, NULL);
    session s;
    backend_times times = {0};
    double t0 = now_ms();
    const char *symbol = module_symbol(a, m, o->emit);
    open_session(&s, a, m, n_variants, o);
    bool ok = build(&s, variants, n_variants, o, d, symbol);
    times.build = now_ms() - t0;
    if (ok && (o->emit == EMIT_LLVM || o->emit == EMIT_ASM)) ok = emit_text(&s, o, d);
    else if (ok) ok = emit_binary(&s, o, d, &times);
    if (ok && o->emit == EMIT_OBJ && o->header) ok = write_header(o, symbol, m, d, a);
    if (o->times) *o->times = times;
    close_session(&s);
    arena_destroy(a);
    return ok;
}
