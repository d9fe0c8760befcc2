"""Objects of a version as files below a folder.

download ──► fetch ──► part
│          │       a large one, by ranges
│          ▼
│        cache     bytes that were fetched before, by what they are the same by (sameness)
▼
target ──► target_state
the folder, written     what it remembers of its files
so that no way leads
out of it (local_paths)
"""
