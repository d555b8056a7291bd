"""The reference service: a trip search whose V1 answers flights and hotels, and whose V2 adds weather."""
