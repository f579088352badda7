// A vCenter or ESXi host for tests: govmomi's simulator, in front of it a handler of our own that
// gives disks real content, snapshots that freeze it, changed block tracking, locks and faults.
//
// It prints one line of JSON when it is ready and ends when its standard input is closed, so that
// it never outlives the test that started it.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
)

var (
	user     = flag.String("user", "administrator@vsphere.local", "login")
	password = flag.String("password", "secret", "password of that login")
	listen   = flag.String("listen", "127.0.0.1:0", "address")
	version  = flag.String("api", "", "about.apiVersion to claim, such as 8.0.2.0")
	idle     = flag.Duration("idle", 0, "idle time after which a session ends; 0: never")
	page     = flag.Int("page", 2000, "most areas that one QueryChangedDiskAreas answers")
	esx      = flag.Bool("esx", false, "a stand-alone ESXi instead of a vCenter")
	hosts    = flag.Int("hosts", 2, "hosts in the cluster")
	stores   = flag.Int("stores", 2, "datastores")
	machines = flag.Int("machines", 0, "machines of the simulator's own, without content")
	delay    = flag.Duration("delay", 0, "time after the answer in which a task of ours does its work")
	nfc      = flag.Int64("nfc", 48<<20, "bytes of NFC buffers of the host")
)

func model() *simulator.Model {
	m := simulator.VPX()
	if *esx {
		m = simulator.ESX()
	}
	m.Machine, m.Datastore = *machines, *stores
	if !*esx {
		m.Host, m.ClusterHost = 0, *hosts
	}
	if *version != "" {
		m.ServiceContent.About.ApiVersion, m.ServiceContent.About.Version = *version, *version
	}
	return m
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "vsphere.test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(240 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func fingerprint(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

func main() {
	flag.Parse()
	simulator.SessionIdleTimeout = *idle
	m := model()
	if err := m.Create(); err != nil {
		log.Fatal(err)
	}
	cert := certificate()
	m.Service.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	m.Service.Listen = &url.URL{Host: *listen, User: url.UserPassword(*user, *password)}
	m.Service.RegisterEndpoints = true
	server := m.Service.NewServer()
	b := newBed(m.Service, server.Config.Handler)
	b.settle()
	markUplinks()
	server.Config.Handler = b // embedding the simulator's types to override them makes it panic

	digest := sha1.Sum(cert.Certificate[0])
	_ = json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"address": server.URL.Host, "sha1": fingerprint(digest[:])})
	_, _ = io.Copy(io.Discard, bufio.NewReader(os.Stdin))
	b.close()
	m.Remove()
}
