package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// bed is what lies in front of the simulator. Its lock is held while it changes or reads anything
// of its own; the simulator has locks of its own.
type bed struct {
	sync.Mutex
	service *simulator.Service
	stock   http.Handler

	tracked   map[string]*tracked // by machine and device key: "vm-57/2000"
	snapshots map[string]*frozen  // by snapshot
	faults    []*fault
	leases    map[string]*lease
	calls     map[string]int
	traffic   traffic
	full      map[string]bool // datastores without space
	denied    map[string]bool // privileges that the login has not
	pages     map[string]rest // by token
	writers   map[string]chan struct{}
	numbers   int
}

func newBed(service *simulator.Service, stock http.Handler) *bed {
	return &bed{service: service, stock: stock,
		tracked: map[string]*tracked{}, snapshots: map[string]*frozen{},
		leases: map[string]*lease{}, calls: map[string]int{}, full: map[string]bool{},
		denied: map[string]bool{}, pages: map[string]rest{},
		writers: map[string]chan struct{}{}}
}

func (b *bed) close() {
	b.Lock()
	defer b.Unlock()
	for _, t := range b.tracked {
		t.forget()
	}
}

func (b *bed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/_bed/"):
		b.control(w, r)
	case strings.HasPrefix(r.URL.Path, "/folder"):
		b.folder(w, r)
	case r.URL.Path == "/sdk" && r.Method == http.MethodPost:
		b.sdk(w, r)
	default:
		b.stock.ServeHTTP(w, r)
	}
}

// folder serves the files of datastores, but no extent of a machine that runs: those are locked.
func (b *bed) folder(w http.ResponseWriter, r *http.Request) {
	switch {
	case b.take("folder") != nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	case !b.knows(r):
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		w.WriteHeader(http.StatusUnauthorized)
	case inUse(r.URL.Path):
		w.WriteHeader(http.StatusInternalServerError)
	case r.Method == http.MethodPut && b.isFull(r.URL.Query().Get("dsName")):
		w.WriteHeader(http.StatusInsufficientStorage)
	default:
		b.stock.ServeHTTP(w, r)
	}
}

func (b *bed) isFull(datastore string) bool {
	b.Lock()
	defer b.Unlock()
	return b.full[datastore]
}

func inUse(file string) bool {
	if !strings.HasSuffix(file, "-flat.vmdk") {
		return false
	}
	for _, vm := range allMachines() {
		if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			continue
		}
		for _, d := range disksOf(vm) {
			name := backing(d).FileName
			if strings.HasSuffix(file, strings.TrimSuffix(name[strings.Index(name, "] ")+2:],
				".vmdk")+"-flat.vmdk") {
				return true
			}
		}
	}
	return false
}

const currentTime = `<?xml version="1.0"?><soapenv:Envelope
 xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>
<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>
</soapenv:Body></soapenv:Envelope>`

// knows tells whether a request has a session or a password: the simulator itself is asked.
func (b *bed) knows(r *http.Request) bool {
	if name, secret, ok := r.BasicAuth(); ok {
		return name == *user && secret == *password
	}
	if len(r.Header["Cookie"]) == 0 {
		return false
	}
	ask, _ := http.NewRequest(http.MethodPost, "/sdk", strings.NewReader(currentTime))
	ask.Header["Cookie"] = r.Header["Cookie"]
	ask.RemoteAddr = r.RemoteAddr
	answer := httptest.NewRecorder()
	b.service.ServeSDK(answer, ask)
	return answer.Code == http.StatusOK
}

func machine(ref types.ManagedObjectReference) *simulator.VirtualMachine {
	vm, _ := simulator.Map.Get(ref).(*simulator.VirtualMachine)
	return vm
}

func machineOf(id string) *simulator.VirtualMachine {
	return machine(types.ManagedObjectReference{Type: "VirtualMachine", Value: id})
}

func allMachines() (found []*simulator.VirtualMachine) {
	for _, e := range simulator.Map.All("VirtualMachine") {
		found = append(found, e.(*simulator.VirtualMachine))
	}
	return
}
