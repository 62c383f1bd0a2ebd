"""The fleet's process: takes jobs from the queue and runs the stages of batches."""
