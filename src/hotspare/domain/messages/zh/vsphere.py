"""vSphere 驱动的文本。"""

from .. import Text

TEXTS: dict[str, Text] = {
    # --- 连接 ---
    "vsphere.cancelled": Text("vSphere 中断了该工作：{reason}。"),
    "vsphere.clock": Text(
        "服务器与本灾备机的时钟相差 {seconds} 秒。",
        "请让两者与时间服务器（NTP）同步。"),
    "vsphere.host-away": Text(
        "vCenter 连接不上 ESXi 主机：{reason}。",
        "请确认主机在运行，且 vCenter 显示其已连接。"),
    "vsphere.object-gone": Text("vSphere 中已没有该对象：{reason}。"),
    "vsphere.power-state": Text("虚机当前的电源状态不允许此操作：{reason}。"),
    "vsphere.privilege": Text(
        "登录账号在 {object} 上缺少权限 {privilege}。",
        "请在 vSphere 中为该账号的角色添加；全部所需权限见 docs/user/vsphere.md。"),
    "vsphere.privilege-missing": Text(
        "登录账号缺少权限 {privilege}。",
        "请在 vSphere 的根或数据中心上为该账号的角色添加。"),
    "vsphere.session-ended": Text("与 vSphere 的会话已结束：{reason}。"),
    "vsphere.thumbprint-form": Text(
        "{given} 不是证书指纹。",
        "请给出 SHA-1 指纹：20 组十六进制数，以冒号分隔。"),
    "vsphere.thumbprint-other": Text(
        "服务器出示的证书与已知的不同：其指纹为 {found}，而非 {known}。没有向其发送任何内容。",
        "如果证书已更换，请与服务器控制台上显示的指纹核对，再将平台的选项 thumbprint 设为新指纹。"),
    "vsphere.thumbprint-unknown": Text(
        "服务器的证书不是由本机信任的机构签发（{reason}）。其 SHA-1 指纹为 {found}。"
        "没有向其发送任何内容。",
        "请与服务器控制台上显示的指纹核对；如果一致，请设置平台的选项：thumbprint={found}"),
    "vsphere.too-old": Text("服务器的版本低于所需版本。", "最低支持 vSphere 6.5。"),
    "vsphere.transports": Text(
        "选项 transports 中有不存在的传输方式：{given}。", "可用的有：{known}。"),
    "vsphere.user": Text(
        "访问 {uri} 需要用户名和密码。", "请设置平台的选项 user 及其密码。"),
    # --- 位置 ---
    "datastore.full": Text(
        "数据存储 {datastore} 空间不足：{reason}。", "请在该处释放空间。已发布的内容没有丢失。"),
    "vsphere.datastore-unusable": Text("数据存储 {storage} 不可访问或处于维护模式。"),
    "vsphere.host-unusable": Text("主机 {host} 未连接或处于维护模式。"),
    # --- 磁盘与传输方式 ---
    "disk.independent": Text(
        "磁盘 {disk} 是独立磁盘：快照不包含它。",
        "请在虚机关机时将其磁盘模式设为从属。"),
    "disk.multi-writer": Text(
        "磁盘 {disk} 由多台虚机共享（多写入者），没有一致的时间点。", "请不要共享它。"),
    "failover.mark": Text(
        "文件 {file} 记录了一次故障切换，但不是由我们写的。",
        "请查明是谁更改了它；如果没有故障切换，可以将其删除。"),
    "folder.failed": Text(
        "服务器没有接受或给出文件 {file}：{reason}。",
        "请查看服务器自己的日志，并确认该登录可以操作此数据存储上的文件。"),
    "isolation.no-address": Text(
        "vSphere 主机在测试网络中没有地址，因此无法探测副本的端口。"),
    "point.snapshot-gone": Text(
        "还原点 {number} 所在的快照 {snapshot} 已被删除，或其磁盘已被移除。",
        "请查明是谁所为。其他还原点不受影响。"),
    "replica.foreign": Text(
        "虚拟机 {machine} 的标识与规则 {rule} 的副本机相同，但没有其标记。",
        "请查明是谁更改了它的配置（hotspare.rule）。"),
    "replica.machine-gone": Text(
        "规则 {rule} 的副本在 {storage} 上有文件，但其虚拟机已不在清单中。",
        "请重新注册该虚拟机；如果它已丢失，请删除那里的目录 hotspare-{rule} 并重新开始。"),
    "replica.runs": Text(
        "规则 {rule} 的副本机被开机，但不是由 Hotspare 所为（{machine}）。",
        "如果有人正在使用它，请勿改动。否则请将其关机并再次运行任务：它会说明写入了什么。"),
    "replica.stands": Text(
        "规则 {rule} 的副本机正以 {name} 接管：现在无法为其创建还原点。",
        "请先结束故障切换：撤销、回切或转为永久。"),
    "target.disk-place": Text(
        "主机为新虚拟机分配了磁盘 {made}，而不是 {disk}。",
        "未向其写入任何数据。请撤销回切，并选择其他主机。"),
    "target.host": Text(
        "主机 {host} 不存在、未连接，或无法访问 {storage}。", "请选择其他主机或其他存储。"),
    "target.memory": Text(
        "该虚拟机需要 {memory} 字节内存；目标主机有 {offered} 字节。", "请选择更大的主机。"),
    "target.too-many-disks": Text(
        "目标的 {bus} 控制器上没有磁盘 {disk} 的位置。"),
    "folder.read-only": Text("传输方式 folder 只能读取。"),
    "folder.runs": Text("传输方式 folder 不能读取正在运行的虚机。"),
    "folder.snapshots": Text("传输方式 folder 不能读取位于快照之上的磁盘。"),
    "nbdkit.failed": Text(
        "无法启动 nbdkit：{reason}。", "灾备机上所需的内容见 docs/user/vsphere.md。"),
    "nbdkit.missing": Text("灾备机上没有安装 nbdkit。", "请在灾备机上安装软件包 nbdkit。"),
    "transport.used": Text("磁盘 {disk} 的数据经 {transport} 传输。"),
    "vddk.missing": Text(
        "灾备机上没有 VMware 虚拟磁盘开发包（VDDK）。",
        "请从 Broadcom 获取，在灾备机上解压，并将平台的选项 vddk_libdir 设为其位置；"
        "见 docs/user/vsphere.md。"),
    "vddk.untrusted": Text(
        "{path} 不能用作 VMware 的库或 nbdkit 的相应插件：名称不符，或 root 以外的用户可以更改它。",
        "请使其属于 root，且只有 root 可写。"),
    "target.place-gone": Text(
        "目标平台上已没有 {kind} {name}。现有：{known}。", "请重新创建，或为规则选择其他位置。"),
    "vsphere.no-tools": Text(
        "无法通知 {vm} 关机：客户机中的 VMware Tools 没有响应。",
        "请在系统内部关机，或允许强制断电（--power-off）。"),
    "vsphere.no-transport": Text(
        "没有可到达 {file} 的传输方式：{reasons}。",
        "各传输方式所需的条件见 docs/user/vsphere.md。"),
    # --- 时间点 ---
    "quiesce.no-tools": Text(
        "虚机中没有运行 VMware Tools，因此未对其文件系统静默。",
        "请在虚机中安装 open-vm-tools 或 VMware Tools。"),
    "quiesce.refused": Text(
        "vSphere 无法对虚机的文件系统静默。",
        "请查看 vSphere 中该虚机的事件；Windows 虚机请查看其卷影复制服务。"),
    "snapshot.failed": Text(
        "vSphere 无法为 {vm} 创建快照：{reason}。", "请查看 vSphere 中该虚机的事件。"),
    "snapshot.too-many": Text(
        "虚机 {vm} 的快照层数已达 vSphere 的上限：{reason}。", "请删除它的一些快照。"),
    "source.foreign-snapshot": Text(
        "快照 {snapshot} 用了我们的名称，但没有我们的标记。", "请查明是谁创建的，并将其删除。"),
    "source.snapshot-gone": Text("保持 {vm} 时间点的快照已被删除。"),
    "tracking.begun-anew": Text(
        "自上一个恢复点以来，vSphere 重新开始了变化块跟踪：虚机断电、被恢复到快照或被迁移，"
        "或跟踪曾被关闭又打开。",
        "无需处理：本次运行比较全部数据，之后的运行恢复快速。"),
    "tracking.disk-replaced": Text("该磁盘与上一个恢复点时的不是同一块。"),
    "tracking.not-on": Text(
        "vSphere 尚未跟踪该磁盘的变化块。",
        "如果虚机有在跟踪打开之前创建的快照，则在其删除之前每次都比较全部数据。"),
    "tracking.refused": Text(
        "vSphere 没有给出磁盘 {disk} 的变化块：{reason}。",
        "无需处理：本次运行比较全部数据。"),
    "tracking.resized": Text("该磁盘的大小与上一个恢复点时不同。"),
    # --- 虚机 ---
    "vm.encrypted": Text(
        "{vm} 由 vSphere 加密，目前不支持。", "请解密，或改为在虚机内部加密。"),
    "vm.fault-tolerant": Text(
        "{vm} 启用了容错（FT），不能创建快照。", "请关闭其容错。"),
    "vm.inaccessible": Text(
        "vSphere 无法读取 {vm} 的配置。", "请查看其主机和数据存储是否可用。"),
    "vm.shared-bus": Text(
        "{vm} 与其他虚机共享控制器总线（{device}），没有一致的时间点。",
        "请在虚机内部复制该集群。"),
    "vm.template": Text("{vm} 是模板。", "请先将其转换为虚机。"),
}
