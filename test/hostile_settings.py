"""A value of each setting of a session that is not ours, as somebody may have set it for a server, a database or a role."""

ANOTHER_ACCESS_METHOD = "CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler"

AGAINST_US = {
    "array_nulls": "off",
    "backslash_quote": "on",
    "bytea_output": "escape",
    "check_function_bodies": "off",
    "client_min_messages": "debug5",
    "DateStyle": "SQL, DMY",
    "debug_parallel_query": "on",
    "default_table_access_method": "heap2",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "enable_bitmapscan": "on",
    "enable_seqscan": "on",
    "escape_string_warning": "off",
    "exit_on_error": "on",
    "extra_float_digits": "-15",
    "force_parallel_mode": "on",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "1s",
    "IntervalStyle": "sql_standard",
    "jit": "on",
    "lc_monetary": "POSIX",
    "lc_numeric": "POSIX",
    "lc_time": "POSIX",
    "lock_timeout": "0",
    "operator_precedence_warning": "on",
    "plan_cache_mode": "force_custom_plan",
    "quote_all_identifiers": "on",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "row_security": "off",
    "search_path": "public",
    "standard_conforming_strings": "off",
    "statement_timeout": "1ms",
    "synchronous_commit": "off",
    "TimeZone": "Asia/Kathmandu",
    "transaction_timeout": "1s",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "xmloption": "document",
}

_LISTS = ("DateStyle", "restrict_nonsystem_relation_kind")


def assigned(name: str, value: str) -> str:
    """Return what follows SET in an ALTER statement.

    A value of several words is one text, or a list of names.
    """
    quoted = (
        f"'{value}'" if name in _LISTS else ", ".join(f"'{each}'" for each in value.split(", "))
    )
    return f"{name} = {quoted}"
