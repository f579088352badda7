"""KVM through libvirt: agentless, over the libvirt connection and NBD."""
