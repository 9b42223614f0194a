/* emit.c - the driver of the CPU backend: one LLVM module for all kinds and targets, to text, object, library or header. */
#define _POSIX_C_SOURCE 200809L
#include "backends/cpu/internal.h"

#include <attn/abi.h>
#include <ctype.h>
#include <errno.h>
#include <llvm-c/Analysis.h>
#include <llvm-c/ErrorHandling.h>
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
    [TARGET_CPU_AVX512BF16] = {.suffix = "avx512bf16", .cpu = "x86-64-v4", .features = "+avx512bf16,+avx512vnni", .isa = ATTN_ISA_AVX512BF16,
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

/* ---- types of the ABI ------------------------------------------------------------------------------------------------------------ */

static Type struct_of(gen *g, const char *kinds)
{
    Type t[64];
    unsigned n = 0;
    for (; kinds[n]; n++) t[n] = kinds[n] == 'i' ? g->i32 : kinds[n] == 'l' ? g->i64 : g->ptr;
    return LLVMStructTypeInContext(g->context, t, n, 0);
}

static Type args_struct(gen *g)
{
#define i32 g->i32
#define i64 g->i64
#define ptr g->ptr
    Type t[] = {
#define FIELD(type, kind, name) kind,
#include <attn/kernel_args.def>
#undef FIELD
    };
#undef i32
#undef i64
#undef ptr
    return LLVMStructTypeInContext(g->context, t, ATTNC_COUNT(t), 0);
}

static void check_layouts(const gen *g)
{
    static const size_t offsets[] = {
#define FIELD(type, kind, name) offsetof(attn_kernel_args, name),
#include <attn/kernel_args.def>
#undef FIELD
    };
    for (unsigned i = 0; i < ATTNC_COUNT(offsets); i++) ATTNC_CHECK(LLVMOffsetOfElement(g->layout, g->args_type, i) == offsets[i]);
    ATTNC_CHECK(LLVMABISizeOfType(g->layout, g->seq_type) == sizeof(attn_seq));
    ATTNC_CHECK(LLVMABISizeOfType(g->layout, g->item_type) == sizeof(attn_item));
    ATTNC_CHECK(LLVMABISizeOfType(g->layout, g->segment_type) == sizeof(attn_segment));
}

static void open_types(gen *g)
{
    LLVMContextRef c = g->context;
    g->i1 = LLVMInt1TypeInContext(c), g->i8 = LLVMInt8TypeInContext(c), g->i16 = LLVMInt16TypeInContext(c);
    g->i32 = LLVMInt32TypeInContext(c), g->i64 = LLVMInt64TypeInContext(c);
    g->f16 = LLVMHalfTypeInContext(c), g->f32 = LLVMFloatTypeInContext(c);
    g->ptr = LLVMPointerTypeInContext(c, 0), g->none = LLVMVoidTypeInContext(c);
    g->args_type = args_struct(g);
    g->item_type = struct_of(g, "iiiiiiiiiiii");
    g->segment_type = struct_of(g, "lliiii");
    g->seq_type = struct_of(g, "llllllpppp");
}

/* ---- a session with LLVM ------------------------------------------------------------------------------------------------------------ */

static void on_fatal(const char *reason) { attnc_bug("LLVM", 0, reason); }

static void on_diagnostic(LLVMDiagnosticInfoRef info, void *ctx)
{
    (void)ctx;
    if (LLVMGetDiagInfoSeverity(info) != LLVMDSError) return;
    ATTNC_BUG(LLVMGetDiagInfoDescription(info));
}

/* LLVM's time grows with a module, and faster than a function: beyond these numbers of instructions it is told not to try hard, then not
 * asked at all. An ordinary kernel has 3000. */
enum { OPTIMISED_FUNCTION = 25000, OPTIMISED_MODULE = 600000, MOST_FUNCTION = 150000, MOST_MODULE = 2000000 };

typedef struct session {
    gen g;
    LLVMTargetMachineRef machine;
    char *triple;
    Val counted; /* the last function that is in the numbers: */
    uint64_t instructions, largest;
    cpu_target chosen[TARGET_COUNT]; /* as targets[], with this machine's name when native */
} session;

static LLVMTargetMachineRef target_machine(const char *triple, LLVMCodeGenOptLevel effort)
{
    LLVMTargetRef target;
    char *message = NULL;
    if (LLVMGetTargetFromTriple(triple, &target, &message)) ATTNC_BUG(message);
    return LLVMCreateTargetMachine(target, triple, "x86-64", "", effort, LLVMRelocPIC, LLVMCodeModelDefault);
}

static void open_session(session *s, arena *a, const ir_module *m)
{
    gen *g = &s->g;
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    LLVMResetFatalErrorHandler();
    LLVMInstallFatalErrorHandler(on_fatal);
    *g = (gen){.arena = a, .ir = m, .context = LLVMContextCreate()};
    LLVMContextSetDiagnosticHandler(g->context, on_diagnostic, NULL);
    s->triple = LLVMCreateMessage("x86_64-unknown-linux-gnu");
    s->machine = target_machine(s->triple, LLVMCodeGenLevelDefault);
    s->counted = NULL;
    s->instructions = s->largest = 0;
    g->module = LLVMModuleCreateWithNameInContext(m->name, g->context);
    g->b = LLVMCreateBuilderInContext(g->context);
    g->layout = LLVMCreateTargetDataLayout(s->machine);
    LLVMSetTarget(g->module, s->triple);
    LLVMSetModuleDataLayout(g->module, g->layout);
    open_types(g);
    check_layouts(g);
    size_t tables = m->symbols.tables.n + 1;
    g->table_data = ARENA_ARRAY(a, Val, tables);
    for (int i = 0; i < 2; i++) g->bound_fn[i] = ARENA_ARRAY(a, Val, tables);
    memcpy(s->chosen, targets, sizeof targets);
}

static void close_session(session *s)
{
    LLVMDisposeBuilder(s->g.b);
    LLVMDisposeModule(s->g.module);
    LLVMDisposeTargetData(s->g.layout);
    LLVMDisposeTargetMachine(s->machine);
    LLVMContextDispose(s->g.context);
    LLVMDisposeMessage(s->triple);
}

static void use_this_machine(session *s, target_id t)
{
    char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    s->chosen[t].cpu = arena_strdup(s->g.arena, cpu);
    s->chosen[t].features = arena_strdup(s->g.arena, features);
    s->chosen[t].suffix = "native";
    s->chosen[t].isa = ATTN_ISA_NATIVE;
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
}

/* ---- building ------------------------------------------------------------------------------------------------------------------------ */

static uint64_t count_function(Val f)
{
    uint64_t n = 0;
    for (Block b = LLVMGetFirstBasicBlock(f); b; b = LLVMGetNextBasicBlock(b))
        for (Val i = LLVMGetFirstInstruction(b); i; i = LLVMGetNextInstruction(i)) n++;
    return n;
}

/* Adds what was written since the last time; false when it is too much. */
static bool count_code(session *s, const pattern *p, diags *d)
{
    for (Val f; (f = s->counted ? LLVMGetNextFunction(s->counted) : LLVMGetFirstFunction(s->g.module)); s->counted = f) {
        uint64_t n = count_function(f);
        s->instructions += n;
        if (n > s->largest) s->largest = n;
    }
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
    diag_report(d, DIAG_ID_UNOPTIMISED, s->g.ir->patterns.at[0]->where,
                "the kernels of this model are so large (%llu instructions, %llu in one function) that their code is not optimised",
                (unsigned long long)s->instructions, (unsigned long long)s->largest);
    LLVMDisposeTargetMachine(s->machine);
    s->machine = target_machine(s->triple, LLVMCodeGenLevelNone);
}

static bool build(session *s, const backend_variant *variants, size_t n_variants, const backend_options *o, diags *d, const char *symbol)
{
    gen *g = &s->g;
    const ir_module *m = g->ir;
    size_t n = m->patterns.n;
    kind_code *kinds = ARENA_ARRAY(g->arena, kind_code, n + 1);
    kernel_code *kernels = ARENA_ARRAY(g->arena, kernel_code, n * n_variants + 1);
    g->target = &targets[TARGET_CPU_BASELINE];
    for (size_t i = 0; i < n; i++) kinds[i] = emit_kind_code(g, variants[0].kernels[i]);
    for (size_t v = 0; v < n_variants; v++) {
        if (o->native) use_this_machine(s, variants[v].target);
        g->target = &s->chosen[variants[v].target];
        for (size_t i = 0; i < n; i++) {
            const kernel *k = variants[v].kernels[i];
            const char *wrong = emit_kernel(g, k, &kernels[v * n + i]);
            if (!wrong && !count_code(s, m->patterns.at[k->pattern], d)) return false;
            if (!wrong) continue;
            diag_report(d, DIAG_ID_UNSUPPORTED, m->patterns.at[k->pattern]->where, "pattern %s for %s: %s", k->name,
                        target_get(variants[v].target)->name, wrong);
            return false;
        }
    }
    emit_module_desc(g, kinds, kernels, n_variants, o, symbol);
    choose_effort(s, d);
    return true;
}

static void verify(const gen *g)
{
    char *message = NULL;
    if (LLVMVerifyModule(g->module, LLVMReturnStatusAction, &message)) {
        const char *dump = getenv("ATTNC_DUMP_BAD_IR");
        if (dump) LLVMPrintModuleToFile(g->module, dump, NULL);
        ATTNC_BUG(message);
    }
    LLVMDisposeMessage(message);
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

/* Into memory first: LLVM ends the program when a file cannot take what it writes. */
static bool emit_object(session *s, const char *path, diags *d)
{
    LLVMMemoryBufferRef buffer;
    char *message = NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(s->machine, s->g.module, LLVMObjectFile, &message, &buffer)) ATTNC_BUG(message);
    bool ok = write_whole(path, LLVMGetBufferStart(buffer), LLVMGetBufferSize(buffer), d);
    LLVMDisposeMemoryBuffer(buffer);
    return ok;
}

static bool emit_text(session *s, const backend_options *o, diags *d)
{
    arena *a = s->g.arena;
    if (o->emit == EMIT_LLVM) {
        char *ir = LLVMPrintModuleToString(s->g.module);
        bool ok = write_or_print(o, ir, strlen(ir), d, a);
        LLVMDisposeMessage(ir);
        return ok;
    }
    LLVMMemoryBufferRef buffer;
    char *message = NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(s->machine, s->g.module, LLVMAssemblyFile, &message, &buffer)) ATTNC_BUG(message);
    bool ok = write_or_print(o, LLVMGetBufferStart(buffer), LLVMGetBufferSize(buffer), d, a);
    LLVMDisposeMemoryBuffer(buffer);
    return ok;
}

static bool emit_binary(session *s, const backend_options *o, diags *d, backend_times *times)
{
    arena *a = s->g.arena;
    if (to_stdout(o)) return file_error(d, "standard output", "an object or a library needs a file name: -o kernel.so");
    char *object = arena_printf(a, "%s.tmp%ld.o", o->output, (long)getpid());
    char *library = arena_printf(a, "%s.tmp%ld", o->output, (long)getpid());
    double t0 = now_ms();
    bool ok = emit_object(s, object, d);
    double t1 = now_ms();
    if (ok && o->emit == EMIT_SO) ok = link_library(object, library, d) && rename_into_place(library, o->output, d);
    else if (ok) ok = rename_into_place(object, o->output, d);
    remove(object);
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
    open_session(&s, a, m);
    bool ok = build(&s, variants, n_variants, o, d, symbol);
    if (ok) verify(&s.g);
    times.build = now_ms() - t0;
    if (ok && (o->emit == EMIT_LLVM || o->emit == EMIT_ASM)) ok = emit_text(&s, o, d);
    else if (ok) ok = emit_binary(&s, o, d, &times);
    if (ok && o->emit == EMIT_OBJ && o->header) ok = write_header(o, symbol, m, d, a);
    if (o->times) *o->times = times;
    close_session(&s);
    arena_destroy(a);
    return ok;
}
