/* main.c - attnc: attention patterns in, kernels out. */
#include "tools/attnc/driver.h"

int main(int argc, char **argv)
{
    options o;
    tool_error err;
    int status = options_parse(argc, argv, &o, &err);
    if (!status) return driver_run(&o);
    fprintf(stderr, "attnc: error: %s\n", err.text);
    return status;
}
