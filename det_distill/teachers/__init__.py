"""The nets that watch: built, loaded strictly, frozen, checked; one or several of them."""
