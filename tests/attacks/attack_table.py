"""What an attacker tried, what came of it before there was a defence, and the tests that try it again.

`before` is what the code did at the commit before the defences: crafted files, damages of run folders and orders in
memory were run there again; the rest is as `docs/decisions` 16 and 17 report it. For training strategies it is
what today's code does with the quarantine open (docs/results/robustness.md, seed 23).
"""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = {
    1: "The server's interfaces",
    2: "What a coordinator asks of a site",
    3: "Changed files and ledgers",
    4: "One hostile site of three",
    5: "Other users of the coordinator's machine",
    6: "The way in",
    7: "Damaged and mutated files",
    8: "Run folders and back-ups",
    9: "Wheels",
}


@dataclass(frozen=True)
class Row:
    """One line. number: of its group in `GROUPS`. tests: FILE::FUNCTION; every case of each is run."""

    number: int
    attack: str
    before: str
    tests: tuple[str, ...]


def _row(number: int, attack: str, before: str, **of_files: tuple[str, ...]) -> Row:
    """of_files: by folder__folder__file, the functions without their `test_`."""
    tests = []
    for key, names in of_files.items():
        *folders, file = key.split("__")
        tests += [f"tests/{'/'.join(folders)}/test_{file}.py::test_{name}" for name in names]
    return Row(number, attack, before, tuple(tests))


_STRATEGY = "tests/attacks/test_strategies.py::test_a_strategy_costs_little_and_is_told"

ROWS = (
    _row(
        1,
        "a bundle with code",
        "ran as the server's user; a site refused it",
        e2e__deployment=(
            "a_bundle_with_code_is_not_run_by_the_server",
            "a_bundle_with_code_is_not_run_by_any_site",
        ),
    ),
    _row(
        1,
        "control and runtime interfaces, no credential",
        "answered whoever reached the port",
        e2e__deployment=(
            "a_user_without_the_credential_is_answered_nothing",
            "nobody_gets_a_task_without_the_secret",
            "the_wall_is_tried_and_not_believed",
        ),
        server__processes__walls=("all_else_is_closed_but_for_the_credential",),
    ),
    _row(
        2,
        "crafted federation files",
        "30 of 30 let through",
        attacks__crafted_federations=(
            "there_are_twelve_and_more",
            "a_crafted_federation_is_refused_by_name_by_the_shipped_policy",
            "a_crafted_request_is_refused_before_a_scan_is_read",
            "an_honest_federation_is_let_through_by_the_shipped_policy",
        ),
    ),
    _row(
        2,
        "40 questions for the mean of a patch",
        "answered with the mean, to the bit",
        attacks__crafted_federations=(
            "40_of_40_questions_for_the_mean_of_a_patch_are_refused",
            "the_same_question_is_answered_by_an_open_policy",
        ),
    ),
    _row(
        2,
        "the same question under other run names",
        "a new count with each name",
        attacks__crafted_federations=(
            "the_budget_counts_over_all_run_names_and_lasts",
            "a_damaged_count_answers_nothing",
        ),
    ),
    _row(
        3,
        "a changed federation file in a new kit",
        "taken without a question",
        client__admission__changed_federation=(
            "a_changed_file_is_not_taken_where_nobody_agrees",
            "a_file_outside_the_policy_is_not_taken_even_where_somebody_agrees",
            "a_pinned_digest_holds_at_accept_and_at_the_start",
        ),
    ),
    _row(
        3,
        "a ledger changed in 500 ways",
        "no ledger",
        minet_core__ledger=("500_of_500_damages_are_found", "every_byte_of_the_noted_head_counts"),
    ),
    _row(
        3,
        "a ledger cut off with its head, or rewritten",
        "no ledger",
        minet_core__ledger=("a_rewritten_ledger_is_found_by_the_head_of_the_other_end",),
        attacks__ledgers=(
            "what_is_taken_from_one_ledger_is_missed_by_the_other",
            "nothing_leaves_a_site_whose_ledger_is_damaged",
        ),
    ),
    _row(
        4,
        "HONEST: are the model's bytes changed by it all",
        "-",
        attacks__honest_bytes=("the_defences_change_no_byte_of_an_honest_run",),
        attacks__ledgers=("the_ledgers_change_no_byte_of_the_model",),
        attacks__steering=("honest_sites_are_neither_told_of_nor_left_out",),
    ),
    _row(
        4,
        "a reply that is no model",
        "refused; overflowing control variates passed",
        attacks__hostile_replies=(
            "a_hostile_reply_is_refused_by_name_and_the_mean_is_that_of_the_honest",
            "a_malformed_reply_is_refused_by_name",
            "a_hostile_control_variate_is_refused_as_a_hostile_weight_is",
            "values_that_would_overflow_are_refused_whatever_the_settings_say",
        ),
    ),
    *(
        Row(4, f"training: {name}", before, (f"{_STRATEGY}[{name}]",))
        for name, before in (
            ("reversed at its own norm", "0.25 dB"),
            ("reversed, doubled", "0.90 dB"),
            ("doubled", "0.17 dB"),
            ("9.9 times as large", "47.7 dB"),
            ("half of the tensors reversed", "no event; cost within the noise"),
            ("noise at the honest norm", "told and used"),
            ("constant drift at the honest norm", "told and used"),
        )
    ),
    _row(
        4,
        "steps that steer, on a scale that is exact",
        "each was used as it was",
        attacks__steering=(
            "a_reversed_update_is_told_from_the_first_round_and_refused_from_the_third",
            "a_large_update_is_refused_and_the_honest_ones_are_used",
            "a_doubled_update_is_told",
            "an_update_of_which_half_is_reversed_is_told_from_the_third_round",
            "a_site_that_goes_against_the_others_for_another_reason_is_refused",
            "a_site_that_drifts_apart_is_refused_where_the_others_scores_fell",
            "a_round_that_made_the_model_worse_is_taken_back_without_the_site_that_did_it",
            "the_word_of_one_site_takes_no_round_back",
        ),
        server__rounds__unlike_sites=("scores_of_some_rounds_say_it_too_late",),
    ),
    _row(
        4,
        "a million slices in a reply",
        "0.99996 of the mean",
        attacks__steering=("a_million_slices_are_half_of_the_mean",),
    ),
    _row(
        4,
        "a million slices at admission",
        "admitted without a word",
        server__admission__declared_slices=(
            "a_site_that_declares_too_many_slices_is_admitted_only_where_that_is_said",
        ),
    ),
    _row(
        5,
        "folders, secrets and logs of the coordinator",
        "open to the umask",
        server__processes__walls=(
            "a_new_folder_is_its_owners_alone",
            "a_folder_from_before_is_tightened_at_the_start_and_that_is_said",
            "a_child_and_its_log_are_private_whatever_the_umask",
            "a_secret_that_others_can_read_is_refused",
        ),
        e2e__deployment=(
            "nothing_is_open_to_other_users",
            "no_update_of_a_site_is_left_in_the_superlinks_database",
        ),
    ),
    _row(
        5,
        "tokens in the arguments of processes",
        "there for every user to read",
        server__processes__walls=("a_token_is_handed_over_by_the_input",),
        e2e__deployment=("no_token_of_a_task_stands_in_the_arguments_of_a_process",),
    ),
    _row(
        6,
        "the proxy: no certificate, another's key or path",
        "Flower alone lets each register",
        attacks__proxy_admission=(
            "a_peer_without_a_certificate_is_refused",
            "another_sites_key_is_refused",
            "an_admitted_site_reaches_no_other_path",
        ),
    ),
    _row(
        6,
        "a revoked site",
        "no revocation list in Flower",
        e2e__admission=("a_revoked_site_is_gone_within_a_minute_and_stays_so_after_a_restart",),
    ),
    _row(
        6,
        "half requests, many connections, large headers",
        "no bound on an address",
        attacks__proxy_connections=(
            "half_handshakes_of_one_address_leave_the_others_room",
            "who_holds_too_many_is_let_go_of_and_the_rest_after_the_handshakes_time",
            "a_large_header_is_refused",
        ),
        attacks__screen_connections=(
            "half_requests_keep_no_reader_out_and_are_let_go_of",
            "a_head_without_end_is_refused_early",
        ),
    ),
    _row(
        7,
        "NIfTI and HDF5 with changed bytes",
        "36% of mutated HDF5 were taken by h5py alone",
        fuzz__fuzz=("no_reader_gives_anything_but_a_value_or_a_coded_error",),
        sites__scans__foreign_fastmri=("a_file_that_brings_its_reader_down_costs_itself_alone",),
    ),
    _row(
        7,
        "weights on the wire and checkpoints with changed bytes",
        "-",
        minet_core__weights__payload=(
            "a_truncated_parcel_is_refused",
            "no_bytes_get_past_the_manifest",
            "a_flipped_byte_never_raises_anything_but_a_refusal",
        ),
        minet_core__checkpoint=("one_flipped_bit_of_a_weight_is_found",),
    ),
    _row(
        7,
        "declared sizes: parcels, bodies",
        "-",
        minet_core__weights__payload=("an_oversized_parcel_is_refused_unopened",),
        server__processes__walls=("a_body_is_bounded_whatever_it_declares",),
    ),
    _row(
        8,
        "tensors that are not in C order in memory",
        "2 of 4 writers changed values",
        minet_core__weights__memory_order=("values_survive_whatever_the_order_in_memory",),
    ),
    _row(
        8,
        "240 damaged run folders",
        "of 238: 53 raw exceptions, 11 other models",
        server__runs__damaged_runs=(
            "240_damages_are_found_or_change_nothing",
            "each_file_that_a_run_goes_on_from_is_held_to_its_digest",
        ),
    ),
    _row(
        8,
        "a back-up that was changed",
        "restored: nothing was signed",
        server__backup__signature=(
            "one_that_was_changed_is_refused_whoever_signs_it",
            "one_without_a_signature_is_taken_only_where_that_is_said",
        ),
    ),
    _row(
        9,
        "another wheel under the same version",
        "built in: versions were pinned, not bytes",
        containers__wheel_hashes=("what_was_not_is_refused_by_name", "what_was_listed_passes"),
    ),
)
"""To add a reader's fuzzing, add its node ids to the rows of group 7."""
