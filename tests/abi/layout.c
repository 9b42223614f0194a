/* layout.c - prints sizes and offsets of every struct that crosses the ABI, for comparison with layout.txt. A line may
 * be added there; none may change. */
#include <attn/cache.h>
#include <stddef.h>
#include <stdio.h>

#define STRUCT(type)    printf("%s %zu\n", #type, sizeof(type))
#define AT(type, field) printf("  %s %zu\n", #field, offsetof(type, field))

static void print_work(void)
{
    STRUCT(attn_seq);
    AT(attn_seq, n_q), AT(attn_seq, pos), AT(attn_seq, n_keys), AT(attn_seq, q_offset), AT(attn_seq, o_offset);
    AT(attn_seq, lse_offset), AT(attn_seq, k_pages), AT(attn_seq, v_pages), AT(attn_seq, q_attr), AT(attn_seq, k_attr);
    STRUCT(attn_segment);
    AT(attn_segment, k0), AT(attn_segment, k1), AT(attn_segment, lane0), AT(attn_segment, lanes),
        AT(attn_segment, masked), AT(attn_segment, step);
    STRUCT(attn_item);
    AT(attn_item, seq), AT(attn_item, head), AT(attn_item, heads), AT(attn_item, row), AT(attn_item, rows),
        AT(attn_item, part);
    AT(attn_item, parts), AT(attn_item, part_slot), AT(attn_item, segment0), AT(attn_item, segments), AT(attn_item, row_step),
        AT(attn_item, next), AT(attn_item, stage);
    STRUCT(attn_kernel_args);
#define FIELD(type, kind, name) AT(attn_kernel_args, name);
#include <attn/kernel_args.def>
#undef FIELD
    STRUCT(attn_range_args);
    AT(attn_range_args, size), AT(attn_range_args, row_step), AT(attn_range_args, q0), AT(attn_range_args, q1), AT(attn_range_args, k0),
        AT(attn_range_args, k1);
    AT(attn_range_args, h), AT(attn_range_args, g), AT(attn_range_args, layer), AT(attn_range_args, inputs);
    AT(attn_range_args, attr), AT(attn_range_args, data), AT(attn_range_args, len), AT(attn_range_args, sweep);
}

static void print_descriptors(void)
{
    STRUCT(attn_kernel_desc);
    AT(attn_kernel_desc, size), AT(attn_kernel_desc, isa), AT(attn_kernel_desc, lanes), AT(attn_kernel_desc, vector);
    AT(attn_kernel_desc, key_step), AT(attn_kernel_desc, max_group), AT(attn_kernel_desc, workspace);
    AT(attn_kernel_desc, part_bytes), AT(attn_kernel_desc, run), AT(attn_kernel_desc, merge),
        AT(attn_kernel_desc, name);
    AT(attn_kernel_desc, schedule), AT(attn_kernel_desc, pair);
    STRUCT(attn_kind_desc);
    AT(attn_kind_desc, size), AT(attn_kind_desc, flags), AT(attn_kind_desc, name), AT(attn_kind_desc, q_heads);
    AT(attn_kind_desc, kv_heads), AT(attn_kind_desc, dim), AT(attn_kind_desc, dim_v), AT(attn_kind_desc, dtype);
    AT(attn_kind_desc, n_may), AT(attn_kind_desc, n_must), AT(attn_kind_desc, n_live), AT(attn_kind_desc, n_data);
    AT(attn_kind_desc, n_kernels), AT(attn_kind_desc, ranges), AT(attn_kind_desc, live), AT(attn_kind_desc, bounds);
    AT(attn_kind_desc, visible), AT(attn_kind_desc, kernels), AT(attn_kind_desc, kv_layer),
        AT(attn_kind_desc, n_groups);
    AT(attn_kind_desc, groups), AT(attn_kind_desc, max_len), AT(attn_kind_desc, kv_format), AT(attn_kind_desc, kv_group),
        AT(attn_kind_desc, row_step);
    STRUCT(attn_input_desc);
    AT(attn_input_desc, size), AT(attn_input_desc, is_int), AT(attn_input_desc, name), AT(attn_input_desc, rank);
    AT(attn_input_desc, extent);
    STRUCT(attn_module_desc);
    AT(attn_module_desc, size), AT(attn_module_desc, abi), AT(attn_module_desc, name), AT(attn_module_desc, compiler);
    AT(attn_module_desc, source_hash), AT(attn_module_desc, air), AT(attn_module_desc, n_layers),
        AT(attn_module_desc, n_kinds);
    AT(attn_module_desc, n_inputs), AT(attn_module_desc, n_attrs), AT(attn_module_desc, schedule),
        AT(attn_module_desc, kinds);
    AT(attn_module_desc, inputs), AT(attn_module_desc, attrs);
}

static void print_api(void)
{
    STRUCT(attn_error);
    STRUCT(attn_allocator);
    AT(attn_allocator, ctx), AT(attn_allocator, alloc), AT(attn_allocator, free);
    STRUCT(attn_plan_config);
    AT(attn_plan_config, size), AT(attn_plan_config, layer), AT(attn_plan_config, n_seqs), AT(attn_plan_config, q_lens);
    AT(attn_plan_config, k_lens), AT(attn_plan_config, positions), AT(attn_plan_config, q_attrs),
        AT(attn_plan_config, k_attrs);
    AT(attn_plan_config, inputs), AT(attn_plan_config, workers), AT(attn_plan_config, isa),
        AT(attn_plan_config, allocator);
    AT(attn_plan_config, max_parts), AT(attn_plan_config, group);
    STRUCT(attn_plan_stats);
    AT(attn_plan_stats, size), AT(attn_plan_stats, items), AT(attn_plan_stats, segments),
        AT(attn_plan_stats, pairs_computed);
    AT(attn_plan_stats, pairs_visible), AT(attn_plan_stats, bytes), AT(attn_plan_stats, kernel);
    STRUCT(attn_tensors);
    AT(attn_tensors, size), AT(attn_tensors, q), AT(attn_tensors, k), AT(attn_tensors, v), AT(attn_tensors, o);
    AT(attn_tensors, lse), AT(attn_tensors, inputs), AT(attn_tensors, layer);
}

static void print_cache(void)
{
    STRUCT(attn_cache_config);
    AT(attn_cache_config, size), AT(attn_cache_config, budget), AT(attn_cache_config, page_tokens);
    AT(attn_cache_config, rollback), AT(attn_cache_config, workers), AT(attn_cache_config, isa);
    AT(attn_cache_config, inputs), AT(attn_cache_config, allocator), AT(attn_cache_config, poison);
    AT(attn_cache_config, n_layers), AT(attn_cache_config, layers), AT(attn_cache_config, prefix_bytes);
    STRUCT(attn_step_config);
    AT(attn_step_config, size), AT(attn_step_config, n_seqs), AT(attn_step_config, seqs), AT(attn_step_config, counts);
    AT(attn_step_config, attrs), AT(attn_step_config, tokens);
    STRUCT(attn_prefix);
    AT(attn_prefix, size), AT(attn_prefix, n_tokens), AT(attn_prefix, most), AT(attn_prefix, tokens);
    AT(attn_prefix, attrs);
    STRUCT(attn_cache_stats);
    AT(attn_cache_stats, size), AT(attn_cache_stats, bytes), AT(attn_cache_stats, bytes_reserved);
    AT(attn_cache_stats, bytes_full), AT(attn_cache_stats, bytes_most), AT(attn_cache_stats, pages);
    AT(attn_cache_stats, pages_free), AT(attn_cache_stats, pages_shared), AT(attn_cache_stats, pages_evicted);
    AT(attn_cache_stats, bytes_bound), AT(attn_cache_stats, bytes_prefix), AT(attn_cache_stats, pages_prefix);
    AT(attn_cache_stats, prefix_hits), AT(attn_cache_stats, prefix_tokens);
    STRUCT(attn_cache_limits);
    AT(attn_cache_limits, size), AT(attn_cache_limits, n_seqs), AT(attn_cache_limits, max_tokens);
    AT(attn_cache_limits, max_step);
}

int main(void)
{
    print_work();
    print_descriptors();
    print_api();
#define STATUS(ident, value, text) printf("ATTN_%s %d\n", #ident, ATTN_##ident);
#include <attn/status.def>
#undef STATUS
    print_cache();
    return 0;
}
