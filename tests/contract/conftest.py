"""The reference service's processes, as its own tests start them."""

from tests.tripsearch.conftest import start_once, trip_data_dir

__all__ = ["start_once", "trip_data_dir"]
