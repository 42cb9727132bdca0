"""Files in object stores: parquet files, copies, a cache on the node."""
