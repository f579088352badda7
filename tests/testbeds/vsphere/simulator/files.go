package main

import (
	"os"
	"path"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// deleteDatastoreFile: the simulator's own makes a task of the file manager, which no client can
// read.
func (b *bed) deleteDatastoreFile(_ types.ManagedObjectReference, body types.AnyType) (
	interface{}, types.BaseMethodFault) {
	r := body.(*types.DeleteDatastoreFile_Task)
	var at object.DatastorePath
	if !at.FromString(r.Name) || at.Path == "" {
		return nil, &types.InvalidDatastorePath{DatastorePath: r.Name}
	}
	for _, e := range simulator.Map.All("Datastore") {
		ds := e.(*simulator.Datastore)
		if ds.Name != at.Datastore {
			continue
		}
		file := path.Join(ds.Info.GetDatastoreInfo().Url, at.Path)
		task := simulator.CreateTask(ds, "deleteDatastoreFile",
			func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
				if _, err := os.Stat(file); err != nil {
					return nil, &types.FileNotFound{FileFault: types.FileFault{File: r.Name}}
				}
				if err := os.RemoveAll(file); err != nil {
					return nil, &types.CannotDeleteFile{FileFault: types.FileFault{File: r.Name}}
				}
				return nil, nil
			})
		return taskOf("DeleteDatastoreFile_Task", task.Run()), nil
	}
	return nil, &types.InvalidDatastore{Name: at.Datastore}
}
