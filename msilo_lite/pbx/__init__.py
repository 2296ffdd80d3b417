"""What a PBX tells: REGISTERs it copies, presence it notifies, and the silo as one of its extensions (`liaison`)."""
