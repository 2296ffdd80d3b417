"""The way out: who is tried when (`scheduler`), in what order (`replay`), where (`ways`), in what dress (`compose`)."""
