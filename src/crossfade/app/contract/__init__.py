"""`crossfade contract`: V1's and V2's OpenAPI documents, read and compared."""
