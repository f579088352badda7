package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	readDisk  = "VirtualMachine.Provisioning.DiskRandomRead"
	writeDisk = "VirtualMachine.Provisioning.DiskRandomAccess"
)

// needed are the privileges of methods, as far as a test may take one away.
var needed = map[string]string{
	"CloneVM_Task":             "VirtualMachine.Provisioning.Clone",
	"CreateSnapshot_Task":      "VirtualMachine.State.CreateSnapshot",
	"CreateSnapshotEx_Task":    "VirtualMachine.State.CreateSnapshot",
	"CreateVM_Task":            "VirtualMachine.Inventory.Create",
	"DeleteDatastoreFile_Task": "Datastore.FileManagement",
	"Destroy_Task":             "VirtualMachine.Inventory.Delete",
	"MakeDirectory":            "Datastore.FileManagement",
	"PowerOffVM_Task":          "VirtualMachine.Interact.PowerOff",
	"PowerOnVM_Task":           "VirtualMachine.Interact.PowerOn",
	"QueryChangedDiskAreas":    readDisk,
	"RemoveSnapshot_Task":      "VirtualMachine.State.RemoveSnapshot",
	"RevertToSnapshot_Task":    "VirtualMachine.State.RevertToSnapshot",
	"SearchDatastore_Task":     "Datastore.Browse",
}

// forbids tells the privilege that the login lacks for a call, or nothing.
func (b *bed) forbids(call *simulator.Method) string {
	privilege := needed[call.Name]
	if r, ok := call.Body.(*types.ReconfigVM_Task); ok && r.Spec.ChangeTrackingEnabled != nil {
		privilege = "VirtualMachine.Config.ChangeTracking"
	}
	b.Lock()
	defer b.Unlock()
	if b.denied[privilege] {
		return privilege
	}
	return ""
}

func (b *bed) hasPrivilegeOnEntities(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.HasPrivilegeOnEntities)
	return &types.HasPrivilegeOnEntitiesResponse{Returnval: b.privileges(r.Entity, r.PrivId)}, nil
}

func (b *bed) hasUserPrivilegeOnEntities(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.HasUserPrivilegeOnEntities)
	return &types.HasUserPrivilegeOnEntitiesResponse{
		Returnval: b.privileges(r.Entities, r.PrivId)}, nil
}

func (b *bed) privileges(entities []types.ManagedObjectReference, ids []string) (
	found []types.EntityPrivilege) {
	for _, entity := range entities {
		one := types.EntityPrivilege{Entity: entity}
		for _, id := range ids {
			one.PrivAvailability = append(one.PrivAvailability,
				types.PrivilegeAvailability{PrivId: id, IsGranted: !b.denied[id]})
		}
		found = append(found, one)
	}
	return
}
