/* load.c MODULE - loads a module by its file name, runs it once, prints what it is. For load.test. */
#include <attn/attn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    attn_error err = {""};
    attn_module *m;
    attn_plan *p;
    int64_t n = 5, shape[] = {5, 1, 1};
    float q[5] = {0}, o[5] = {1, 1, 1, 1, 1};
    DLTensor in = {.data = q, .device = {kDLCPU, 0}, .ndim = 3, .dtype = {kDLFloat, 32, 1}, .shape = shape}, out = in;
    out.data = o;
    if (argc != 2 || attn_module_load(argv[1], NULL, &m, &err)) return puts(err.text), 1;
    const attn_plan_config c = {.size = sizeof c, .isa = -1, .n_seqs = 1, .q_lens = &n};
    const attn_tensors t = {.size = sizeof t, .q = &in, .k = &in, .v = &in, .o = &out};
    if (attn_plan_create(m, &c, &p, &err) || attn_forward(p, &t, NULL, &err)) return puts(err.text), 1;
    printf("%s %s %g\n", attn_module_describe(m)->name, attn_module_kernel(m, 0)->name, (double)(o[0] + o[4]));
    attn_plan_destroy(p);
    attn_module_destroy(m);
    return 0;
}
