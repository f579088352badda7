package main

import (
	"bytes"
	"fmt"
	"io/ioutil"
	"log"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

type method func(*bed, types.ManagedObjectReference, types.AnyType) (interface{}, types.BaseMethodFault)

// ours are the methods that we answer instead of the simulator.
var ours = map[string]method{
	"AuthorizationManager.HasPrivilegeOnEntities":     (*bed).hasPrivilegeOnEntities,
	"AuthorizationManager.HasUserPrivilegeOnEntities": (*bed).hasUserPrivilegeOnEntities,
	"FileManager.DeleteDatastoreFile_Task":            (*bed).deleteDatastoreFile,
	"FileManager.MoveDatastoreFile_Task":              (*bed).moveDatastoreFile,
	"VirtualDiskManager.CopyVirtualDisk_Task":         (*bed).copyVirtualDisk,
	"VirtualDiskManager.ExtendVirtualDisk_Task":       (*bed).extendVirtualDisk,
	"PropertyCollector.ContinueRetrievePropertiesEx":  (*bed).continueRetrieve,
	"VirtualMachine.CreateSnapshot_Task":              (*bed).createSnapshot,
	"VirtualMachine.CreateSnapshotEx_Task":            (*bed).createSnapshotEx,
	"VirtualMachine.RemoveAllSnapshots_Task":          (*bed).removeAllSnapshots,
	"VirtualMachine.ConsolidateVMDisks_Task":          (*bed).consolidate,
	"VirtualMachine.QueryChangedDiskAreas":            (*bed).queryChangedDiskAreas,
	"VirtualMachineSnapshot.RevertToSnapshot_Task":    (*bed).revertToSnapshot,
	"VirtualMachineSnapshot.RemoveSnapshot_Task":      (*bed).removeSnapshot,
	"VirtualMachineSnapshot.RenameSnapshot":           (*bed).renameSnapshot,
}

// reshaping are the simulator's methods after which disks may have come, gone or grown.
var reshaping = map[string]bool{
	"CreateVM_Task": true, "ReconfigVM_Task": true, "CloneVM_Task": true,
	"RegisterVM_Task": true, "RelocateVM_Task": true, "Destroy_Task": true}

func (b *bed) sdk(w http.ResponseWriter, r *http.Request) {
	body, _ := ioutil.ReadAll(r.Body)
	call, err := simulator.UnmarshalBody(types.TypeFunc(), body)
	if err != nil {
		r.Body = ioutil.NopCloser(bytes.NewReader(body))
		b.stock.ServeHTTP(w, r)
		return
	}
	b.Lock()
	b.calls[call.Name]++
	b.Unlock()
	f := b.take(call.Name)
	f.happen(false)
	if f != nil && f.Fault != "" {
		b.fail(w, r, call, f)
		return
	}
	if privilege := b.forbids(call); privilege != "" {
		writeFault(w, "Permission to perform this operation was denied.",
			&types.NoPermission{Object: call.This, PrivilegeId: privilege})
		return
	}
	if own := ours[call.This.Type+"."+call.Name]; own != nil {
		b.answer(w, r, f, func() (interface{}, types.BaseMethodFault) {
			b.Lock()
			defer b.Unlock()
			b.reconfigured(call)
			return own(b, call.This, call.Body)
		})
		return
	}
	if refusal := b.holds(call); refusal != nil {
		writeFault(w, "The operation cannot be done now.", refusal)
		return
	}
	answer := httptest.NewRecorder()
	r.Body = ioutil.NopCloser(bytes.NewReader(body))
	attached := b.attached(call)
	giveBack := b.lendDevices(call)
	answered := b.ask(answer, r)
	giveBack()
	if !answered {
		if call.Name == "Fetch" { // it panics for a property that is not set, where a vCenter is silent
			writeBody(w, `<FetchResponse xmlns="urn:vim25"></FetchResponse>`)
			return
		}
		panic(http.ErrAbortHandler)
	}
	if reshaping[call.Name] {
		b.Lock()
		b.reconfigured(call)
		b.Unlock()
		destroyed(call, attached)
		b.settle()
		b.fillClone(call)
	}
	f.happen(true)
	if page := b.paged(call, answer); page != nil {
		writeResult(w, page)
		return
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// answer runs a method of ours for whoever is logged in.
func (b *bed) answer(w http.ResponseWriter, r *http.Request, f *fault,
	run func() (interface{}, types.BaseMethodFault)) {
	if !b.knows(r) {
		writeFault(w, "The session is not authenticated.", &types.NotAuthenticated{})
		return
	}
	result, failed := run()
	f.happen(true)
	if failed != nil {
		writeFault(w, fmt.Sprintf("%T", failed), failed)
		return
	}
	writeResult(w, result)
}

// fail answers with the fault that was asked for; what is long fails in its task.
func (b *bed) fail(w http.ResponseWriter, r *http.Request, call *simulator.Method, f *fault) {
	if strings.HasSuffix(call.Name, "_Task") && b.knows(r) {
		this := call.This
		b.Lock()
		if vm := b.owner(this); vm != nil { // a task is a machine's, not a snapshot's
			this = vm.Self
		} else if this.Type == "FileManager" || this.Type == "HostDatastoreBrowser" ||
			this.Type == "VirtualDiskManager" {
			this = simulator.Map.Any("Datastore").Reference()
		}
		b.Unlock()
		name := strings.TrimSuffix(call.Name, "_Task")
		task := simulator.CreateTask(&this, strings.ToLower(name[:1])+name[1:],
			func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, f.vim() })
		writeResult(w, taskOf(call.Name, task.Run()))
		return
	}
	writeFault(w, f.Fault, f.vim())
}

// ask lets the simulator answer; false when it panicked.
func (b *bed) ask(w http.ResponseWriter, r *http.Request) (ok bool) {
	defer func() {
		if e := recover(); e != nil {
			log.Printf("the simulator panicked: %v", e)
			ok = false
		}
	}()
	b.stock.ServeHTTP(w, r)
	return true
}

// task runs work as a task of the machine: the answer first, the work after the delay.
func (b *bed) task(vm *simulator.VirtualMachine, name string,
	work func() (types.AnyType, types.BaseMethodFault)) types.ManagedObjectReference {
	t := simulator.CreateTask(vm, name,
		func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return work() })
	if *delay == 0 {
		return t.Run()
	}
	go func() {
		time.Sleep(*delay)
		b.Lock()
		defer b.Unlock()
		t.Run()
	}()
	return t.Self
}

const opening = xml.Header + `<soapenv:Envelope` +
	` xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/"` +
	` xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"` +
	` xmlns:xsd="http://www.w3.org/2001/XMLSchema"` +
	` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>`
const closing = `</soapenv:Body></soapenv:Envelope>`

func writeBody(w http.ResponseWriter, inner string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	fmt.Fprint(w, opening, inner, closing)
}

// element is v as <name xmlns="urn:vim25" [xsi:type]>…</name>.
func element(v interface{}, name, kind string) string {
	var out strings.Builder
	start := xml.StartElement{Name: xml.Name{Local: name},
		Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: "urn:vim25"}}}
	if kind != "" {
		start.Attr = append(start.Attr, xml.Attr{Name: xml.Name{Local: "xsi:type"}, Value: kind})
	}
	encoder := xml.NewEncoder(&out)
	if err := encoder.EncodeElement(v, start); err != nil {
		panic(err)
	}
	_ = encoder.Flush()
	return strings.ReplaceAll(out.String(), `XMLSchema-instance:type=`, `xsi:type=`)
}

type named struct {
	name string
	v    interface{}
}

func writeResult(w http.ResponseWriter, result interface{}) {
	if n, ok := result.(named); ok {
		writeBody(w, element(n.v, n.name, ""))
		return
	}
	writeBody(w, element(result, reflect.TypeOf(result).Elem().Name(), ""))
}

func taskOf(method string, task types.ManagedObjectReference) named {
	return named{method + "Response", &struct {
		Returnval types.ManagedObjectReference `xml:"returnval"`
	}{task}}
}

func writeFault(w http.ResponseWriter, message string, f types.BaseMethodFault) {
	kind := reflect.TypeOf(f).Elem().Name()
	// what has no permission names an object, and none would be no XML of vSphere
	if object := reflect.ValueOf(f).Elem().FieldByName("Object"); object.IsValid() &&
		object.Type() == reflect.TypeOf(types.ManagedObjectReference{}) && object.IsZero() {
		object.Set(reflect.ValueOf(types.ManagedObjectReference{
			Type: "ServiceInstance", Value: "ServiceInstance"}))
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	escaped := strings.NewReplacer("<", "&lt;", "&", "&amp;").Replace(message)
	fmt.Fprint(w, opening, `<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>`,
		escaped, `</faultstring><detail>`, element(f, kind+"Fault", kind),
		`</detail></soapenv:Fault>`, closing)
}
