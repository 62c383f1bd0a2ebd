"""The schema, as plain SQL that `batchd migrate` applies in order."""
