"""The box: what a message is and lives through, who decides about it (`silo`), and the file it lies in (`store`)."""
