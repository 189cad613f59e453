//! Defects of read models.

use super::defects;

defects! {
    views_are_the_transactions: ViewsOutsideTheTransaction breaks read_model [
        rdm_1_a_row_is_not_seen_before_its_commit,
        rdm_1_a_row_rolled_back_is_never_seen,
        rdm_1_rows_written_together_are_seen_together,
    ];
    pages_go_by_key: PagesCountRows breaks read_model [
        rdm_2_rows_inserted_meanwhile_hide_and_double_none,
        rdm_2_rows_deleted_meanwhile_hide_and_double_none_of_the_others,
    ];
    prefixes_are_literal: PagesTakePrefixesForRanges breaks read_model [
        rdm_2_a_prefix_bounds_the_pages,
    ];
}
