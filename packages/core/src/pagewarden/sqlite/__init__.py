"""The file formats of SQLite: bytes in, frozen values out, no I/O.

Header, b-tree page, record, freelist; write-ahead log and wal-index. The source is SQLite's own documents, named in
each module. Every byte is hostile (H29): what cannot be understood is a named error or a bounded answer.
"""
