/* unit.c - one LLVM module, what it is written with, and its machine code. Units share nothing, so several are compiled side by side. */
#define _POSIX_C_SOURCE 200809L
#include "backends/cpu/unit.h"

#include <attn/abi.h>
#include <llvm-c/Analysis.h>
#include <llvm-c/ErrorHandling.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

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
    g->item_type = struct_of(g, "iiiiiiiiiiiiii");
    g->segment_type = struct_of(g, "lliiii");
    g->seq_type = struct_of(g, "llllllpppp");
}

/* ---- LLVM ------------------------------------------------------------------------------------------------------------------------------ */

static const char triple[] = "x86_64-unknown-linux-gnu";

static void on_fatal(const char *reason) { attnc_bug("LLVM", 0, reason); }

static void on_diagnostic(LLVMDiagnosticInfoRef info, void *ctx)
{
    (void)ctx;
    if (LLVMGetDiagInfoSeverity(info) != LLVMDSError) return;
    ATTNC_BUG(LLVMGetDiagInfoDescription(info));
}

void unit_open_llvm(void)
{
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    LLVMResetFatalErrorHandler();
    LLVMInstallFatalErrorHandler(on_fatal);
}

static LLVMTargetMachineRef target_machine(LLVMCodeGenOptLevel effort)
{
    LLVMTargetRef target;
    char *message = NULL;
    if (LLVMGetTargetFromTriple(triple, &target, &message)) ATTNC_BUG(message);
    return LLVMCreateTargetMachine(target, triple, "x86-64", "", effort, LLVMRelocPIC, LLVMCodeModelDefault);
}

void unit_open(unit *u, arena *a, const ir_module *m)
{
    *u = (unit){.g = {.arena = a, .ir = m, .context = LLVMContextCreate()}, .machine = target_machine(LLVMCodeGenLevelDefault)};
    gen *g = &u->g;
    LLVMContextSetDiagnosticHandler(g->context, on_diagnostic, NULL);
    g->module = LLVMModuleCreateWithNameInContext(m->name, g->context);
    g->b = LLVMCreateBuilderInContext(g->context);
    g->layout = LLVMCreateTargetDataLayout(u->machine);
    LLVMSetTarget(g->module, triple);
    LLVMSetModuleDataLayout(g->module, g->layout);
    open_types(g);
    check_layouts(g);
    size_t tables = m->symbols.tables.n + 1;
    g->table_data = ARENA_ARRAY(a, Val, tables);
    for (int i = 0; i < 2; i++) g->bound_fn[i] = ARENA_ARRAY(a, Val, tables);
}

void unit_close(unit *u)
{
    gen *g = &u->g;
    if (u->code) LLVMDisposeMemoryBuffer(u->code);
    LLVMDisposeBuilder(g->b);
    LLVMDisposeModule(g->module);
    LLVMDisposeTargetData(g->layout);
    LLVMDisposeTargetMachine(u->machine);
    LLVMContextDispose(g->context);
}

static uint64_t count_function(Val f)
{
    uint64_t n = 0;
    for (Block b = LLVMGetFirstBasicBlock(f); b; b = LLVMGetNextBasicBlock(b))
        for (Val i = LLVMGetFirstInstruction(b); i; i = LLVMGetNextInstruction(i)) n++;
    return n;
}

void unit_count(unit *u, uint64_t *instructions, uint64_t *largest)
{
    for (Val f; (f = u->counted ? LLVMGetNextFunction(u->counted) : LLVMGetFirstFunction(u->g.module)); u->counted = f) {
        uint64_t n = count_function(f);
        *instructions += n;
        if (n > *largest) *largest = n;
    }
}

void unit_do_not_optimise(unit *u)
{
    LLVMDisposeTargetMachine(u->machine);
    u->machine = target_machine(LLVMCodeGenLevelNone);
}

void unit_verify(const unit *u)
{
    char *message = NULL;
    if (LLVMVerifyModule(u->g.module, LLVMReturnStatusAction, &message)) {
        const char *dump = getenv("ATTNC_DUMP_BAD_IR");
        if (dump) LLVMPrintModuleToFile(u->g.module, dump, NULL);
        ATTNC_BUG(message);
    }
    LLVMDisposeMessage(message);
}

/* ---- code ------------------------------------------------------------------------------------------------------------------------------- */

typedef struct work {
    unit *units;
    size_t n;
    LLVMCodeGenFileType type;
    atomic_size_t next;
} work;

static void *compile_some(void *ctx)
{
    work *w = ctx;
    for (size_t i; (i = atomic_fetch_add(&w->next, 1)) < w->n;) {
        unit *u = &w->units[w->n - 1 - i]; /* the widest target first: it takes longest */
        char *message = NULL;
        if (LLVMTargetMachineEmitToMemoryBuffer(u->machine, u->g.module, w->type, &message, &u->code)) ATTNC_BUG(message);
    }
    return NULL;
}

void units_compile(unit *units, size_t n, LLVMCodeGenFileType type)
{
    enum { MOST_THREADS = 8 };
    pthread_t thread[MOST_THREADS];
    work w = {.units = units, .n = n, .type = type};
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t others = 0;
    while (others < MOST_THREADS && others + 1 < n && (long)others + 1 < processors &&
           !pthread_create(&thread[others], NULL, compile_some, &w))
        others++;
    compile_some(&w);
    for (size_t i = 0; i < others; i++) pthread_join(thread[i], NULL);
}
