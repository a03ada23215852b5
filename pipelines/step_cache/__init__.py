"""Steps that are not computed: long schedules repeat themselves, and a step may reuse what an earlier one came to."""
