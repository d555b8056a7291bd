"""V1's and V2's answers to the same questions, compared field by field and judged against V1's own noise."""
