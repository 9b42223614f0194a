/* attn.y - the grammar of .attn files; dsl/SPEC.md explains it with examples.
 *
 * Any keyword that can be told from a name by its place may be a name (`attr row : int;`): see `name`. After a mistake the
 * parser goes on behind the next `;` or `}`. Counts, ranges and meaning are checked later; here only shape. */
%code requires {
#include "frontend/parse_context.h"
}
%code {
#define _POSIX_C_SOURCE 200809L
#include "frontend/parse_report.h"
#define YYLLOC_DEFAULT(to, rhs, n) \
    ((to) = (n) ? (span){YYRHSLOC(rhs, 1).source, YYRHSLOC(rhs, 1).begin, YYRHSLOC(rhs, n).end} \
                : (span){YYRHSLOC(rhs, 0).source, YYRHSLOC(rhs, 0).end, YYRHSLOC(rhs, 0).end})
/* The stacks stand on the C stack and do not grow: nothing to free when the arena ends the parse early. */
#define YYINITDEPTH 3000
#define YYMAXDEPTH 3000
int attn_yylex(ATTN_YYSTYPE *value, ATTN_YYLTYPE *where, void *scanner);
static void attn_yyerror(const ATTN_YYLTYPE *where, void *scanner, parse_context *ctx, const char *message);
}

%define api.pure full
%define api.prefix {attn_yy}
%define api.token.prefix {T_}
%define api.location.type {span}
%define parse.error custom
%define parse.lac full
%locations
%expect 0
%param { void *scanner }
%parse-param { parse_context *ctx }
%initial-action { @$ = (span){ctx->source, 0, 0}; }

%union {
    int64_t integer;
    double number;
    const char *text;
    node *node;
    node_list nodes;
    decl *decl;
    decl_list decls;
    plan *plan;
    plan_list plans;
    requirement *requirement;
    option *option;
    struct { type_name type; bool is_array; node_list extents; } type;
}

%token START_FILE START_EXPRESSION
%token <integer> INTEGER
%token <number> FLOAT
%token <text> STRING NAME
%token <text> AND OR NOT IF THEN ELSE IN TRUE FALSE REQUIRE
%token <text> IMPORT MODEL PATTERN PARAM INPUT ATTR LET MASK SCORE
%token <text> LAYERS HEADS DIM DIM_V DTYPE SCALE ROW KV MAX_LEN SCHEDULE
%token <text> SELECT ROPE NOPE QKNORM POS PHASE EPILOGUE
%token LE "<=" GE ">=" EQ "==" NE "!=" DOTS ".." LT "<" GT ">"
%token PLUS "+" MINUS "-" STAR "*" SLASH "/" PERCENT "%" ASSIGN "="
%token SEMICOLON ";" COLON ":" COMMA "," DOT "." LPAREN "(" RPAREN ")" LBRACKET "[" RBRACKET "]" LBRACE "{" RBRACE "}"

%precedence ELSE
%left OR
%left AND
%precedence NOT
%precedence IN
%left "<" ">" "<=" ">=" "==" "!="
%left "+" "-"
%left "*" "/" "%"
%precedence NEGATE

%type <text> name reserved
%type <node> expr primary item value repeat
%type <nodes> exprs items values header_params
%type <decl> declaration clause_item file_item block_item
%type <decls> file_items block block_items
%type <plan> plan plan_item plan_repeat plan_atom plan_choice
%type <plans> plan_items
%type <requirement> requires
%type <option> options option policies policy
%type <type> type

%%
start
    : START_FILE file_items         { ctx->file = $2; }
    | START_EXPRESSION value        { ctx->expression = $2; }
    ;

file_items
    : %empty                        { $$ = (decl_list){0}; }
    | file_items file_item          { $$ = ast_append_decl($1, $2); ctx->file = $$; }
    | file_items error ";"          { $$ = $1; yyerrok; ctx->muted = false; }
    | file_items error "}"          { $$ = $1; yyerrok; ctx->muted = false; }
    ;

file_item
    : declaration
    | clause_item
    | IMPORT STRING ";"             { $$ = ast_decl(ctx, DECL_IMPORT, @$, @2, NULL); $$->text = $2; }
    | MODEL name block              { $$ = ast_decl(ctx, DECL_MODEL, @$, @2, $2); $$->body = $3; }
    | PATTERN name block            { $$ = ast_decl(ctx, DECL_PATTERN, @$, @2, $2); $$->body = $3; }
    | ";"                           { $$ = NULL; }
    ;

block
    : "{" block_items "}"           { $$ = $2; }
    | "{" block_items error "}"     { $$ = $2; yyerrok; ctx->muted = false; }
    ;

block_items
    : %empty                        { $$ = (decl_list){0}; }
    | block_items block_item        { $$ = ast_append_decl($1, $2); }
    | block_items error ";"         { $$ = $1; yyerrok; ctx->muted = false; }
    ;

block_item
    : declaration
    | clause_item
    | PATTERN name block            { $$ = ast_decl(ctx, DECL_PATTERN, @$, @2, $2); $$->body = $3; }
    | ";"                           { $$ = NULL; }
    ;

declaration
    : PARAM name ":" type "=" value ";"
        { $$ = ast_decl(ctx, DECL_PARAM, @$, @2, $2);
          $$->type = $4.type; $$->is_array = $4.is_array; $$->extents = $4.extents; $$->value = $6; }
    | INPUT name ":" type ";"
        { $$ = ast_decl(ctx, DECL_INPUT, @$, @2, $2);
          $$->type = $4.type; $$->is_array = $4.is_array; $$->extents = $4.extents; }
    | ATTR name ":" type ";"
        { $$ = ast_decl(ctx, DECL_ATTR, @$, @2, $2); $$->type = $4.type; $$->is_array = $4.is_array; }
    | LET name "=" expr requires ";"
        { $$ = ast_define(ctx, DEFINE_LET, @$, ast_named(ctx, NODE_NAME, @2, $2, (node_list){0}), $4, $5); }
    | LET name "(" header_params ")" "=" expr requires ";"
        { $$ = ast_define(ctx, DEFINE_LET, @$, ast_named(ctx, NODE_CALL, @2, $2, $4), $7, $8); }
    | MASK expr "=" expr requires ";"   { $$ = ast_define(ctx, DEFINE_MASK, @$, $2, $4, $5); }
    | SCORE expr "=" expr requires ";"  { $$ = ast_define(ctx, DEFINE_SCORE, @$, $2, $4, $5); }
    ;

header_params
    : name                          { $$ = ast_one(ast_named(ctx, NODE_NAME, @1, $1, (node_list){0})); }
    | header_params "," name        { $$ = ast_append($1, ast_named(ctx, NODE_NAME, @3, $3, (node_list){0})); }
    ;

type
    : name                          { $$.is_array = false; $$.extents = (node_list){0}; $$.type = parse_type(ctx, @1, $1); }
    | name "[" exprs "]"            { $$.is_array = true; $$.extents = $3; $$.type = parse_type(ctx, @1, $1); }
    ;

requires
    : %empty                        { $$ = NULL; }
    | requires REQUIRE expr         { $$ = ast_require(ctx, $1, @3, $3, NULL); }
    | requires REQUIRE expr STRING  { $$ = ast_require(ctx, $1, @3, $3, $4); }
    ;

clause_item
    : LAYERS expr ";"               { $$ = ast_clause(ctx, CLAUSE_LAYERS, @$, @1); $$->values = ast_one($2); }
    | HEADS expr ";"                { $$ = ast_clause(ctx, CLAUSE_HEADS, @$, @1); $$->values = ast_one($2); }
    | DIM expr ";"                  { $$ = ast_clause(ctx, CLAUSE_DIM, @$, @1); $$->values = ast_one($2); }
    | DIM_V expr ";"                { $$ = ast_clause(ctx, CLAUSE_DIM_V, @$, @1); $$->values = ast_one($2); }
    | DTYPE name ";"                { $$ = ast_clause(ctx, CLAUSE_DTYPE, @$, @2); $$->text = $2; }
    | MASK expr ";"                 { $$ = ast_clause(ctx, CLAUSE_MASK, @$, @1); $$->values = ast_one($2); }
    | SCORE exprs ";"               { $$ = ast_clause(ctx, CLAUSE_SCORE, @$, @1); $$->values = $2; }
    | SCALE expr ";"                { $$ = ast_clause(ctx, CLAUSE_SCALE, @$, @1); $$->values = ast_one($2); }
    | ROW name ";"                  { $$ = ast_clause(ctx, CLAUSE_ROW, @$, @2); $$->text = $2; }
    | ROW name "(" ")" ";"          { $$ = ast_clause(ctx, CLAUSE_ROW, @$, @2); $$->text = $2; }
    | ROW name "(" options ")" ";"  { $$ = ast_clause(ctx, CLAUSE_ROW, @$, @2); $$->text = $2; $$->options = $4; }
    | KV policies ";"               { $$ = ast_clause(ctx, CLAUSE_KV, @$, @1); $$->options = ast_reverse_options($2); }
    | MAX_LEN expr ";"              { $$ = ast_clause(ctx, CLAUSE_MAX_LEN, @$, @1); $$->values = ast_one($2); }
    | SCHEDULE plan ";"             { $$ = ast_decl(ctx, DECL_SCHEDULE, @$, @1, NULL); $$->plan = $2; }
    | reserved ";"                  { $$ = NULL; }
    | reserved error ";"            { $$ = NULL; yyerrok; ctx->muted = false; }
    ;

reserved
    : reserved_word                 { $$ = NULL; parse_reserved(ctx, @1); }
    ;

reserved_word: SELECT | ROPE | NOPE | QKNORM | POS | PHASE | EPILOGUE ;

options
    : option
    | options "," option            { $$ = $3; $$->next = $1; }
    ;

option
    : name ":" expr                 { $$ = ast_option(ctx, @1, $1, $3); }
    ;

policies
    : policy
    | policies "," policy           { $$ = $3; $$->next = $1; }
    ;

policy
    : name                          { $$ = ast_option(ctx, @1, $1, NULL); }
    | name "(" exprs ")"            { $$ = ast_option(ctx, @$, $1, $3.first); }
    ;

/* ---- schedule ------------------------------------------------------------------------------------------------------- */
plan
    : plan_items                    { $$ = ast_plan_sequence(ctx, @$, $1); }
    ;

plan_items
    : plan_item                     { $$ = ast_append_plan((plan_list){0}, $1); }
    | plan_items "," plan_item      { $$ = ast_append_plan($1, $3); }
    ;

plan_item
    : plan_repeat
    | IF expr THEN plan_choice ELSE plan_choice { $$ = ast_plan_if(ctx, @$, $2, $4, $6); }
    ;

plan_repeat
    : plan_atom
    | plan_repeat "*" repeat        { $$ = ast_plan_repeat(ctx, @$, $1, $3); }
    | INTEGER "*" plan_atom
        { node *n = ast_node(ctx, NODE_INT, @1); n->i = $1; $$ = ast_plan_repeat(ctx, @$, $3, n); }
    ;

plan_choice
    : plan_atom
    | IF expr THEN plan_choice ELSE plan_choice { $$ = ast_plan_if(ctx, @$, $2, $4, $6); }
    ;

plan_atom
    : name                          { $$ = ast_plan(ctx, PLAN_NAME, @1); $$->name = $1; }
    | "(" plan ")"                  { $$ = $2; $$->where = @$; }
    ;

repeat
    : INTEGER                       { $$ = ast_node(ctx, NODE_INT, @1); $$->i = $1; }
    | name                          { $$ = ast_named(ctx, NODE_NAME, @1, $1, (node_list){0}); }
    | "(" expr ")"                  { $$ = $2; }
    ;

/* ---- expressions ---------------------------------------------------------------------------------------------------- */
exprs
    : expr                          { $$ = ast_one($1); }
    | exprs "," expr                { $$ = ast_append($1, $3); }
    ;

value
    : expr
    | "[" values "]"                { $$ = ast_with_kids(ctx, NODE_LIST, @$, $2); }
    | "[" values "," "]"            { $$ = ast_with_kids(ctx, NODE_LIST, @$, $2); }
    ;

values
    : value                         { $$ = ast_one($1); }
    | values "," value              { $$ = ast_append($1, $3); }
    ;

expr
    : primary
    | expr OR expr                  { $$ = ast_join(ctx, NODE_OR, @$, @2, $1, $3); }
    | expr AND expr                 { $$ = ast_join(ctx, NODE_AND, @$, @2, $1, $3); }
    | NOT expr                      { $$ = ast_unary(ctx, NODE_NOT, @$, $2); }
    | expr "<" expr                 { $$ = ast_binary(ctx, BINARY_LT, @$, @2, $1, $3); }
    | expr "<=" expr                { $$ = ast_binary(ctx, BINARY_LE, @$, @2, $1, $3); }
    | expr ">" expr                 { $$ = ast_binary(ctx, BINARY_GT, @$, @2, $1, $3); }
    | expr ">=" expr                { $$ = ast_binary(ctx, BINARY_GE, @$, @2, $1, $3); }
    | expr "==" expr                { $$ = ast_binary(ctx, BINARY_EQ, @$, @2, $1, $3); }
    | expr "!=" expr                { $$ = ast_binary(ctx, BINARY_NE, @$, @2, $1, $3); }
    | expr IN "[" items "]"
        { node_list kids = ast_one($1);
          for (node *n = $4.first; n;) { node *after = n->next; kids = ast_append(kids, n); n = after; }
          $$ = ast_with_kids(ctx, NODE_IN, @$, kids); }
    | expr "+" expr                 { $$ = ast_binary(ctx, BINARY_ADD, @$, @2, $1, $3); }
    | expr "-" expr                 { $$ = ast_binary(ctx, BINARY_SUB, @$, @2, $1, $3); }
    | expr "*" expr                 { $$ = ast_binary(ctx, BINARY_MUL, @$, @2, $1, $3); }
    | expr "/" expr                 { $$ = ast_binary(ctx, BINARY_DIV, @$, @2, $1, $3); }
    | expr "%" expr                 { $$ = ast_binary(ctx, BINARY_MOD, @$, @2, $1, $3); }
    | "-" expr %prec NEGATE         { $$ = ast_unary(ctx, NODE_NEGATE, @$, $2); }
    | IF expr THEN expr ELSE expr   { $$ = ast_if(ctx, @$, $2, $4, $6); }
    ;

items
    : item                          { $$ = ast_one($1); }
    | items "," item                { $$ = ast_append($1, $3); }
    ;

item
    : expr
    | expr ".." expr
        { $$ = ast_with_kids(ctx, NODE_SPAN, @$, ast_append(ast_one($1), $3)); }
    ;

primary
    : INTEGER                       { $$ = ast_node(ctx, NODE_INT, @1); $$->i = $1; }
    | FLOAT                         { $$ = ast_node(ctx, NODE_FLOAT, @1); $$->f = $1; }
    | TRUE                          { $$ = ast_node(ctx, NODE_BOOL, @1); $$->i = 1; }
    | FALSE                         { $$ = ast_node(ctx, NODE_BOOL, @1); }
    | name                          { $$ = ast_named(ctx, NODE_NAME, @1, $1, (node_list){0}); }
    | name "(" exprs ")"            { $$ = ast_named(ctx, NODE_CALL, @$, $1, $3); }
    | name "(" ")"                  { $$ = ast_named(ctx, NODE_CALL, @$, $1, (node_list){0}); }
    | name "[" exprs "]"            { $$ = ast_named(ctx, NODE_INDEX, @$, $1, $3); }
    | name "." name                 { $$ = ast_named(ctx, NODE_MEMBER, @$, $1, (node_list){0}); $$->member = $3; }
    | "(" expr ")"                  { $$ = $2; $$->parens = true; $$->where = @$; }
    ;

name
    : NAME | IMPORT | MODEL | PATTERN | PARAM | INPUT | ATTR | LET | MASK | SCORE
    | LAYERS | HEADS | DIM | DIM_V | DTYPE | SCALE | ROW | KV | MAX_LEN | SCHEDULE
    | SELECT | ROPE | NOPE | QKNORM | POS | PHASE | EPILOGUE
    ;
%%

static void attn_yyerror(const ATTN_YYLTYPE *where, void *scanner, parse_context *ctx, const char *message)
{
    (void)scanner, (void)message; /* only "memory exhausted" comes here; other mistakes go to yyreport_syntax_error */
    parse_too_deep(ctx, *where);
}

static int yyreport_syntax_error(const yypcontext_t *at, void *scanner, parse_context *ctx)
{
    (void)scanner;
    yysymbol_kind_t expected[YYNTOKENS];
    int n = yypcontext_expected_tokens(at, expected, YYNTOKENS);
    bool wanted[PARSE_WORD_COUNT] = {0};
    for (int i = 0; i < n; i++) {
        switch (expected[i]) {
#define WORD(token, word) case YYSYMBOL_##token: wanted[PARSE_WORD_##word] = true; break;
#include "frontend/expected_words.def"
#undef WORD
        default: break; /* bison's enumeration: the rest needs no word */
        }
    }
    bool at_end = yypcontext_token(at) == YYSYMBOL_YYEOF || yypcontext_token(at) == YYSYMBOL_YYEMPTY;
    parse_report_syntax(ctx, *yypcontext_location(at), at_end, wanted);
    return 0;
}
