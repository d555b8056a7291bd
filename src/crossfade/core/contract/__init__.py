"""Two OpenAPI documents compared by one rule: V2 may add, and must not change or remove what V1's clients rely on."""
