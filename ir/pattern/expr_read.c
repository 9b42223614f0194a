/* expr_read.c - reading what expr_text.c prints: precedence climbing; chains are loops, nesting is bounded. */
#include "ir/pattern/pool.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    expr_pool *pool;
    const char *at;    /* behind the last token */
    const char *error; /* the first mistake; `at` is where */
    unsigned depth;
} reader;

static expr parse(reader *r, int least);

static expr fail(reader *r, const char *where, const char *what)
{
    if (!r->error) r->error = what, r->at = where;
    return 0;
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */
static const char *skip_space(const char *s)
{
    for (;; s++) {
        if (s[0] == '/' && s[1] == '/') s += strcspn(s, "\n");
        if (!*s || !isspace((unsigned char)*s)) return s;
    }
}

static bool is_word_char(char c) { return isalnum((unsigned char)c) || c == '_'; }

static size_t word_length(const char *s)
{
    size_t n = 0;
    if (isdigit((unsigned char)*s)) return 0;
    while (is_word_char(s[n])) n++;
    return n;
}

static bool is_word(const char *s, size_t n, const char *word) { return strlen(word) == n && !memcmp(s, word, n); }

/* Takes the word or sign when it comes next. */
static bool take(reader *r, const char *token)
{
    const char *s = skip_space(r->at);
    size_t n = strlen(token);
    if (strncmp(s, token, n)) return false;
    if (is_word_char(token[0]) && is_word_char(s[n])) return false;
    r->at = s + n;
    return true;
}

static bool expect(reader *r, const char *token, const char *message)
{
    if (r->error) return false;
    if (take(r, token)) return true;
    fail(r, skip_space(r->at), message);
    return false;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */
static size_t digits(const char *s)
{
    size_t n = 0;
    while (isdigit((unsigned char)s[n])) n++;
    return n;
}

/* The length of a number and whether it is a float: has a fraction or an exponent. */
static size_t number_length(const char *s, bool *is_float)
{
    size_t n = digits(s);
    *is_float = false;
    if (s[n] == '.' && digits(s + n + 1)) *is_float = true, n += 1 + digits(s + n + 1);
    if (s[n] == 'e' || s[n] == 'E') {
        size_t sign = s[n + 1] == '-' || s[n + 1] == '+';
        size_t more = digits(s + n + 1 + sign);
        if (more) *is_float = true, n += 1 + sign + more;
    }
    return n;
}

static expr read_integer(reader *r, const char *s, size_t n, bool minus)
{
    uint64_t v = 0, limit = (uint64_t)INT64_MAX + minus;
    for (size_t i = 0; i < n; i++) {
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (v > (limit - digit) / 10) return fail(r, s, "a number does not fit 64 bits");
        v = v * 10 + digit;
    }
    r->at = s + n;
    return expr_int(r->pool, (int64_t)(minus ? 0 - v : v));
}

/* A number, inf or nan with its sign already taken; 0 without an error: something else. */
static expr read_number(reader *r, bool minus)
{
    const char *s = skip_space(r->at);
    size_t word = word_length(s);
    if (is_word(s, word, "inf") || is_word(s, word, "nan")) {
        r->at = s + word;
        double x = *s == 'i' ? (double)INFINITY : (double)NAN;
        return expr_float(r->pool, minus ? -x : x);
    }
    if (!isdigit((unsigned char)*s)) return 0;
    bool is_float;
    size_t n = number_length(s, &is_float);
    if (!is_float) return read_integer(r, s, n, minus);
    double x = strtod(s, NULL);
    r->at = s + n;
    return expr_float(r->pool, minus ? -x : x);
}

/* ---- operations -------------------------------------------------------------------------------------------------- */
/* The operation of this spelling and form whose operands have this type. */
static expr_op find_op(const char *s, size_t n, int form, expr_type operand)
{
    for (int op = EXPR_NOT; op < EXPR_OP_COUNT; op++) {
        const expr_op_info *i = &expr_op_table[op];
        if (i->form == form && i->operand == (int)operand && is_word(s, n, i->spelling)) return (expr_op)op;
    }
    return EXPR_NONE;
}

typedef struct infix {
    const char *sign, *spelling; /* spelling of the operation that it means */
    int precedence;
    bool swapped, negated;
} infix;
static const infix infixes[] = {
    {"or", "or", PREC_OR, false, false},      {"and", "and", PREC_AND, false, false},
    {"<=", "<=", PREC_COMPARE, false, false}, {">=", "<=", PREC_COMPARE, true, false},
    {"==", "==", PREC_COMPARE, false, false}, {"!=", "==", PREC_COMPARE, false, true},
    {"<", "<", PREC_COMPARE, false, false},   {">", "<", PREC_COMPARE, true, false},
    {"+", "+", PREC_SUM, false, false},       {"-", "-", PREC_SUM, false, false},
    {"*", "*", PREC_PRODUCT, false, false},   {"/", "/", PREC_PRODUCT, false, false},
    {"%", "%", PREC_PRODUCT, false, false},
};

static expr make_infix(reader *r, const infix *x, const char *where, expr a, expr b)
{
    if (!a || !b) return 0;
    expr_type t = expr_type_of(r->pool, a);
    if (t != expr_type_of(r->pool, b)) return fail(r, where, "the operands have different types");
    expr_op op = find_op(x->spelling, strlen(x->spelling), FORM_INFIX, t);
    if (op == EXPR_NONE) return fail(r, where, "this operator does not take operands of this type");
    expr e = x->swapped ? expr_binary(r->pool, op, b, a) : expr_binary(r->pool, op, a, b);
    return x->negated ? expr_unary(r->pool, EXPR_NOT, e) : e;
}

/* Reads up to max comma-separated integer or other operands up to the closing sign. */
static uint32_t read_operands(reader *r, expr *args, uint32_t max, const char *close)
{
    uint32_t n = 0;
    do {
        if (n == max) {
            fail(r, skip_space(r->at), "too many operands");
            return 0;
        }
        args[n] = parse(r, PREC_IF);
        if (!args[n++]) return 0;
    } while (take(r, ","));
    return expect(r, close, close[0] == ']' ? "expected `]`" : "expected `)`") ? n : 0;
}

static bool find_table(const symbols *s, const char *name, size_t n, uint32_t *out)
{
    for (uint32_t i = 0; i < s->tables.n; i++)
        if (is_word(name, n, s->tables.at[i].name)) {
            *out = i;
            return true;
        }
    return false;
}

static expr make_table(reader *r, const char *where, expr_op op, uint32_t index, const expr *args, uint32_t n)
{
    if (r->error) return 0;
    if (n != r->pool->symbols->tables.at[index].rank * (op == EXPR_ELEM ? 1u : 2u))
        return fail(r, where, "the wrong number of indices for this table");
    for (uint32_t i = 0; i < n; i++)
        if (expr_type_of(r->pool, args[i]) != TYPE_INT) return fail(r, where, "an index is no integer");
    return op == EXPR_ELEM ? expr_elem(r->pool, index, args, n) : expr_elem_bound(r->pool, op, index, args, n);
}

static expr read_index(reader *r, const char *name, size_t len)
{
    uint32_t index;
    expr args[EXPR_MAX_ARGS];
    if (!find_table(r->pool->symbols, name, len, &index)) return fail(r, name, "no table of this name");
    uint32_t n = read_operands(r, args, EXPR_MAX_ARGS, "]");
    return make_table(r, name, EXPR_ELEM, index, args, n);
}

static expr read_bound(reader *r, const char *name, bool least)
{
    const char *s = skip_space(r->at);
    size_t len = word_length(s);
    uint32_t index;
    expr args[EXPR_MAX_ARGS];
    if (!find_table(r->pool->symbols, s, len, &index)) return fail(r, s, "expected the name of a table");
    r->at = s + len;
    if (!expect(r, ",", "expected `,`")) return 0;
    uint32_t n = read_operands(r, args, EXPR_MAX_ARGS, ")");
    return make_table(r, name, least ? EXPR_ELEM_MIN : EXPR_ELEM_MAX, index, args, n);
}

static expr read_call(reader *r, const char *name, size_t len)
{
    if (is_word(name, len, "min_of")) return read_bound(r, name, true);
    if (is_word(name, len, "max_of")) return read_bound(r, name, false);
    expr args[EXPR_MAX_ARGS];
    uint32_t n = read_operands(r, args, EXPR_MAX_ARGS, ")");
    if (r->error) return 0;
    expr_type t = expr_type_of(r->pool, args[0]);
    expr_op op = find_op(name, len, FORM_CALL, t);
    if (op == EXPR_NONE) return fail(r, name, "no function of this name for operands of this type");
    if ((int)n != expr_op_table[op].operands) return fail(r, name, "the wrong number of operands");
    if (n == 2 && expr_type_of(r->pool, args[1]) != t) return fail(r, name, "the operands have different types");
    return expr_make(r->pool, op, args, n);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */
static const char *const var_names[VAR_COUNT] = {
#define VAR(ident, spelling, type, depends) [VAR_##ident] = spelling,
#include "ir/pattern/expr_vars.def"
#undef VAR
};

/* `doc.q`, `doc.k.max`: r->at is behind the name. */
static expr read_attr(reader *r, const char *name, size_t len)
{
    static const char *const sides[ATTR_SIDE_COUNT] = {".q", ".k", ".q.min", ".q.max", ".k.min", ".k.max"};
    symbols *s = r->pool->symbols;
    for (uint32_t a = 0; a < s->attrs.n; a++) {
        if (!is_word(name, len, s->attrs.at[a])) continue;
        for (int side = ATTR_SIDE_COUNT; side-- > 0;) { /* the longer ones first */
            size_t n = strlen(sides[side]);
            if (strncmp(r->at, sides[side], n) || is_word_char(r->at[n])) continue;
            r->at += n;
            return expr_attr(r->pool, a, (attr_side)side);
        }
        return fail(r, r->at, "expected .q, .k, .q.min, .q.max, .k.min or .k.max");
    }
    return fail(r, name, "no attribute of this name");
}

/* may#3, must#0 */
static expr read_data(reader *r, bool must)
{
    const char *s = r->at + 1;
    size_t n = digits(s);
    if (n == 0 || n > 9) return fail(r, s, "expected the number of a data atom");
    uint32_t index = (uint32_t)strtoul(s, NULL, 10);
    r->at = s + n;
    return expr_data(r->pool, index, must);
}

static expr read_name(reader *r)
{
    const char *s = skip_space(r->at);
    size_t n = word_length(s);
    if (!n) return fail(r, s, "expected an expression");
    r->at = s + n;
    if (*r->at == '.') return read_attr(r, s, n);
    if (*r->at == '#' && (is_word(s, n, "may") || is_word(s, n, "must"))) return read_data(r, n == 4);
    if (take(r, "[")) return read_index(r, s, n);
    if (take(r, "(")) return read_call(r, s, n);
    if (is_word(s, n, "true") || is_word(s, n, "false")) return expr_bool(r->pool, n == 4);
    for (int v = 0; v < VAR_COUNT; v++)
        if (is_word(s, n, var_names[v])) return expr_variable(r->pool, (expr_var)v);
    return fail(r, s, "unknown name");
}

/* ---- structure --------------------------------------------------------------------------------------------------- */
static expr read_if(reader *r, const char *where)
{
    expr c = parse(r, PREC_IF);
    if (!c || !expect(r, "then", "expected `then`")) return 0;
    expr a = parse(r, PREC_IF);
    if (!a || !expect(r, "else", "expected `else`")) return 0;
    expr b = parse(r, PREC_IF);
    if (!b) return 0;
    if (expr_type_of(r->pool, c) != TYPE_BOOL) return fail(r, where, "the condition is no boolean");
    if (expr_type_of(r->pool, a) != expr_type_of(r->pool, b))
        return fail(r, where, "the branches have different types");
    return expr_if(r->pool, c, a, b);
}

static expr read_not(reader *r, const char *where)
{
    expr a = parse(r, PREC_NOT);
    if (!a) return 0;
    if (expr_type_of(r->pool, a) != TYPE_BOOL) return fail(r, where, "`not` takes a boolean");
    return expr_unary(r->pool, EXPR_NOT, a);
}

static expr read_minus(reader *r, const char *where)
{
    expr a = read_number(r, true);
    if (a || r->error) return a;
    a = parse(r, PREC_MINUS);
    if (!a) return 0;
    if (expr_type_of(r->pool, a) == TYPE_BOOL) return fail(r, where, "`-` takes a number");
    return expr_negate(r->pool, a);
}

static expr read_operand(reader *r)
{
    const char *where = skip_space(r->at);
    if (take(r, "(")) {
        expr e = parse(r, PREC_IF);
        return e && expect(r, ")", "expected `)`") ? e : 0;
    }
    if (take(r, "if")) return read_if(r, where);
    if (take(r, "not")) return read_not(r, where);
    if (take(r, "-")) return read_minus(r, where);
    expr number = read_number(r, false);
    return number || r->error ? number : read_name(r);
}

static const infix *peek_infix(const reader *r, int least)
{
    const char *s = skip_space(r->at);
    for (size_t i = 0; i < ATTNC_COUNT(infixes); i++) {
        size_t n = strlen(infixes[i].sign);
        if (strncmp(s, infixes[i].sign, n) || (is_word_char(*s) && is_word_char(s[n]))) continue;
        return infixes[i].precedence >= least ? &infixes[i] : NULL;
    }
    return NULL;
}

static expr parse(reader *r, int least)
{
    if (++r->depth > EXPR_MAX_NESTING + 2) return fail(r, r->at, "the expression is nested too deeply");
    expr left = read_operand(r);
    for (const infix *x; left && (x = peek_infix(r, least));) {
        const char *where = skip_space(r->at);
        r->at = where + strlen(x->sign);
        expr right = parse(r, x->precedence + 1);
        left = make_infix(r, x, where, left, right);
        const infix *next = left ? peek_infix(r, PREC_COMPARE) : NULL;
        if (x->precedence == PREC_COMPARE && next && next->precedence == PREC_COMPARE)
            return fail(r, skip_space(r->at), "comparisons do not chain; write `a < b and b < c`");
    }
    r->depth--;
    return r->error ? 0 : left;
}

expr expr_read(expr_pool *p, const char **at, const char **error)
{
    reader r = {.pool = p, .at = *at};
    expr e = parse(&r, PREC_IF);
    *at = r.at;
    *error = r.error;
    return e;
}
