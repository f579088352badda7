"""hotspare doctor 的检查结果。"""

from .. import Text

TEXTS: dict[str, Text] = {
    "doctor.failed": Text("检查本身失败：{error}。", "请附上此行报告问题。"),
    "doctor.hangs": Text(
        "检查未能在 {seconds} 秒内结束。",
        "它所查看的某个对象没有响应：挂载（NFS）、域名服务器或磁盘。请查看 dmesg。"),
    "doctor.module": Text("已安装 {module}。"),
    "doctor.module-missing": Text(
        "缺少 Python 模块 {module}。",
        "请安装本发行版的 {package}，并用 --system-site-packages 建立虚拟环境。"),
    "doctor.libvirt-old": Text("libvirt 版本太旧（{version}）。", "需要 8.2 版。"),
    "doctor.program": Text("已安装 {program}。"),
    "doctor.ssh-missing": Text("缺少 ssh：不能通过 qemu+ssh 连接任何主机。", "请安装 {package}。"),
    "doctor.qemu-img-missing": Text("缺少 qemu-img：不能手工查看镜像。", "请安装 {package}。"),
    "doctor.nbdkit-missing": Text("缺少 nbdkit：读写 vSphere 的磁盘需要它。",
                                  "若使用 vSphere，请安装 {package}。"),
    "doctor.zones": Text("已知 {count} 个时区。"),
    "doctor.no-zones": Text("缺少时区数据：计划需要它。", "请安装 tzdata。"),
    "doctor.no-state": Text("还没有 {path}；首次启动时建立。",
                            "若它应当存在，请用 --state-dir 指定。"),
    "doctor.not-owner": Text(
        "{path} 属于用户 {owner}，而当前用户是 {user}。",
        "请以服务的用户执行：sudo -u hotspare hotspare doctor --state-dir {path}"),
    "doctor.readable": Text("其他用户可以读取 {path}。", "请执行：chmod go-rwx {path}"),
    "doctor.rights": Text("{path} 只属于当前用户。"),
    "doctor.space": Text("{path} 还有 {free_mib} MiB 可用空间。"),
    "doctor.space-low": Text("{path} 只有 {free_mib} MiB 可用空间。",
                             "请释放空间，或用 --temp-dir 指定另一个文件系统。"),
    "doctor.no-inodes": Text("{path} 几乎没有可用的 inode。", "请删除那里的小文件。"),
    "doctor.not-writable": Text("不能写入 {path}。", "请把它交给服务的用户，或以可写方式挂载。"),
    "doctor.files": Text("最多可以打开 {limit} 个文件。"),
    "doctor.files-few": Text(
        "当前环境最多只能打开 {limit} 个文件；灾备机较多时需要 {wanted} 个。",
        "packaging/systemd 中的服务单元会设置它；否则请执行：ulimit -n {wanted}"),
    "doctor.database": Text("{database} 完好（结构版本 {revision}）。"),
    "doctor.no-database": Text("还没有 {path}；首次启动时建立。"),
    "doctor.database-damaged": Text(
        "{database} 已损坏：{detail}。",
        "请停止控制机，移走该文件，执行 hotspare admin restore，启动，再对每个目标平台执行 "
        "hotspare admin rebuild。"),
    "doctor.not-durable": Text("PostgreSQL 的 {setting} 为 off：断电时会丢失已提交的内容。",
                               "请在 postgresql.conf 中打开它。"),
    "doctor.encoding": Text("数据库的编码是 {encoding}。",
                            "请用 ENCODING 'UTF8' 新建数据库并迁移：hotspare admin migrate"),
    "doctor.certificate": Text("{path} 还有 {days} 天有效。"),
    "doctor.no-certificate": Text("还没有 {path}；首次启动时建立。"),
    "doctor.certificate-ends": Text("{path} 将在 {days} 天后到期。",
                                    "请重新启动控制机：它会建立新证书，客户端不受影响。"),
    "doctor.certificate-ended": Text("{path} 已到期。",
                                     "请重新启动控制机：它会建立新证书，客户端不受影响。"),
    "doctor.ca-ends": Text("客户端和灾备机所信任的 {path} 将在 {days} 天后到期。",
                           "请计划更换：删除 tls 目录，重新启动，并重新登记所有灾备机。"),
    "doctor.ca-ended": Text("客户端和灾备机所信任的 {path} 已到期。",
                            "请删除 tls 目录，重新启动，并重新登记所有灾备机。"),
    "doctor.answers": Text("{url} 有响应。"),
    "doctor.no-answer": Text(
        "状态目录上有控制机在运行，但 {url} 没有响应：{error}。",
        "请查看它的日志（journalctl -u hotspare），然后重新启动它。"),
    "doctor.port-free": Text("{listen} 空闲；没有控制机在运行。"),
    "doctor.port-taken": Text("没有控制机在运行，而 {listen} 不能使用：{error}。",
                              "请结束占用该端口的程序（ss -ltnp），或用另一个 --listen 启动。"),
    "doctor.settings": Text("{path} 正确，或不存在。"),
    "doctor.server-unreachable": Text(
        "控制机 {server} 没有响应：{error}。",
        "它是否在运行？本机必须能访问它的端口；反方向不需要。"),
    "doctor.offset": Text("时钟与控制机相差不超过 {seconds} 秒。"),
    "doctor.offset-large": Text("时钟与控制机相差 {seconds} 秒。",
                                "请让两者都由 NTP 校准（chrony、systemd-timesyncd）。"),
    "doctor.clock": Text("时钟由 NTP 校准。"),
    "doctor.clock-alone": Text("没有程序校准时钟。",
                               "请安装 chrony，或执行：timedatectl set-ntp true"),
    "doctor.clock-unknown": Text("这里无法得知时钟是否被校准。"),
    "doctor.kvm": Text("KVM 工作正常。"),
    "doctor.no-kvm": Text("没有 /dev/kvm；只有运行虚机的主机需要它。"),
    "doctor.kvm-rights": Text(
        "无法得知 KVM 是否可用：当前用户不能打开 /dev/kvm。",
        "若没有虚机在本机运行，则无需处理；否则请以 root 执行一次：hotspare doctor"),
    "doctor.kvm-hangs": Text(
        "有 /dev/kvm，但它没有响应或太慢：{seconds} 秒内没有做完 30 毫秒的工作。",
        "本机上的虚机会卡住：请修复下层机器的嵌套虚拟化。在此之前请卸载 kvm_intel 或 kvm_amd "
        "模块：只要 /dev/kvm 存在，libvirt 每次启动 QEMU 都会重新试用它，每个接收端和每次切换会因此"
        "慢约 20 秒。"),
    "doctor.kvm-unusable": Text(
        "/dev/kvm 不能使用：{error}。",
        "本机上的虚机以软件模拟运行，速度很慢。只要 /dev/kvm 存在，libvirt 每次启动 QEMU "
        "都会重新试用它，每个接收端和每次切换会因此慢约 20 秒：请在固件中打开虚拟化，或卸载 "
        "kvm_intel 或 kvm_amd。"),
}
