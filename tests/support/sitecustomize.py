"""Python runs this in every process that has this folder on its path: see `loopback_only`."""

import loopback_only

loopback_only.install()
